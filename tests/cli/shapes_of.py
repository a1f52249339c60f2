"""The shapes of answers (`xchronos/cli/shapes.py`), derived from the records that they are the shapes of."""

from typing import Any

import msgspec
from msgspec import inspect

PLAIN = {
    inspect.StrType: "str",
    inspect.IntType: "int",
    inspect.FloatType: "float",
    inspect.BoolType: "bool",
    inspect.DateTimeType: "time",
}


def shapes(*records: type[msgspec.Struct]) -> dict[str, dict[str, tuple[Any, ...]]]:
    """The shapes of these records and of those in them, by name."""
    found: dict[str, dict[str, tuple[Any, ...]]] = {}
    for record in records:
        _kind(inspect.type_info(record), found)
    return found


def _kind(told: inspect.Type, found: dict[str, dict[str, tuple[Any, ...]]]) -> str:
    if isinstance(told, inspect.StructType):
        name = told.cls.__name__
        if name not in found:
            assert not told.forbid_unknown_fields
            assert told.tag is None
            assert not hasattr(told.cls, "__post_init__")
            found[name] = {}
            for field in told.fields:
                kind = _kind(field.type, found)
                found[name][field.encode_name] = (kind,) if field.required else (kind, _default(field))
        return name
    if isinstance(told, inspect.UnionType):
        (kind,) = (_kind(one, found) for one in told.types if not isinstance(one, inspect.NoneType))
        return f"{kind}?"
    if isinstance(told, inspect.LiteralType):
        return "|".join(map(str, told.values))
    if isinstance(told, inspect.EnumType):
        return "|".join(member.value for member in told.cls)
    if isinstance(told, inspect.VarTupleType):
        return f"[{_kind(told.item_type, found)}]"
    if isinstance(told, inspect.DictType):
        assert isinstance(told.key_type, inspect.StrType)
        return f"{{{_kind(told.value_type, found)}}}"
    assert not any(getattr(told, name) is not None for name in told.__struct_fields__), told
    return PLAIN[type(told)]


def _default(field: inspect.Field) -> Any:
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if isinstance(value, msgspec.Struct):
        assert value == type(value)(), "what stands for it is an object without any field"
        return {}
    return [] if value == () else value
