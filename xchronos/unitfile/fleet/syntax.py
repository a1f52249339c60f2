"""fleet's reading of a unit file's lines, where it differs from systemd's.

xchronos reads files as systemd does. This module shows users of fleet why a file means something else now. The tests
`test_fleet`, `test_fleet_refuses` and `test_parse_as_fleet` check that it is fleet's reading. fleet 1.0 reads files
with the lexer of go-systemd:

- A continued value keeps its backslash and newline. Comment lines within it are part of the value.
- Before the first `[`, everything is skipped. After it, a line without `=` refuses the file. So does text after a `]`.
- A `[` without its `]` takes everything up to the next `]`, line ends included.
- A line of 2048 bytes refuses the file if the lexer has that much of it in its buffer of 4096 bytes.
- Blanks are Unicode's.
"""

from xchronos.errors import Problem, UnitFileError
from xchronos.unitfile.document import Header, Option, UnitFile

_BUFFER_SIZE = 4096
_LINE_LIMIT = 2048
_UNICODE_BLANKS = (
    "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)


def parse_fleet(text: bytes | str, path: str = "") -> UnitFile:
    """Parse one unit file as fleet does. Raises UnitFileError, with one problem, when fleet would refuse it."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return _Lexer(data, path).run()


class _Lexer:
    """go-systemd's lexer, step by step.

    The line limit depends on how much of the input the lexer's buffer holds, so the buffer is modelled too. `at` is the
    index of the next byte to read. The buffer holds the input from there up to `filled`. The test
    `test_fleet_sees_a_line_only_as_far_as_its_buffer` pins this.
    """

    def __init__(self, data: bytes, path: str) -> None:
        self.data = data
        self.path = path
        self.at = 0
        self.filled = 0
        self.options: list[Option] = []
        self.headers: list[Header] = []

    def run(self) -> UnitFile:
        section: str | None = None
        while True:
            self._check_line_length()
            before = self.at
            char = self._read_rune()
            if not char:
                return UnitFile(self.path, self.data, tuple(self.options), tuple(self.headers))
            if char == "[":
                section = self._header()
            elif char in "#;":
                self._skip_comment()
            elif section is not None and char not in _UNICODE_BLANKS:
                self._option(section, before)

    def _header(self) -> str:
        line = self._line_number()
        self._check_line_length()
        name = self._read_until(b"]")
        if not name.endswith(b"]"):
            raise self._refused("unable to find end of section", line)
        section = _decode(name[:-1])
        self._check_line_length()
        garbage = _decode(self._rest_of_line()[0]).strip(_UNICODE_BLANKS)
        if garbage:
            raise self._refused(f"found garbage after section name: {garbage!r}", self._line_number())
        self.headers.append(Header(section, line, self.path))
        return section

    def _skip_comment(self) -> None:
        self._check_line_length()
        while self._rest_of_line()[0].removesuffix(b" ").endswith(b"\\"):
            pass

    def _option(self, section: str, before: int) -> None:
        # The lexer puts the first character back and checks the length again before it reads the name.
        self.at = before
        line = self._line_number()
        self._check_line_length()
        name = ""
        while (char := self._read_rune()) != "=":
            if not char:
                raise self._refused("unexpected end of file while parsing option name", line)
            if char in "\r\n":
                raise self._refused("unexpected newline encountered while parsing option name", line)
            name += char
        value = b""
        while True:
            self._check_line_length()
            physical, ended = self._rest_of_line()
            if not _decode(physical).strip(_UNICODE_BLANKS):
                break
            value += physical
            if not physical.endswith(b"\\"):
                break
            value += b"\n" if ended else b""
        text = _decode(value)
        stripped = text.strip(_UNICODE_BLANKS) + ("\n" if text.endswith("\n") else "")
        self.options.append(Option(section, name.strip(_UNICODE_BLANKS), stripped, line, self.path))

    def _read_rune(self) -> str:
        """The next character. A byte that is not UTF-8 gives U+FFFD. At the end of the file the text is empty."""
        if self.filled - self.at < 4:
            self._fill_for_rune()
        for size in (1, 2, 3, 4):
            try:
                char = self.data[self.at : self.at + size].decode()
            except UnicodeDecodeError:
                continue
            self.at += len(char.encode())
            return char
        self.at += 1
        return "\ufffd"

    def _fill_for_rune(self) -> None:
        held = self.data[self.at : self.filled]
        needed = 1 if not held or held[0] < 0xC0 else 2 if held[0] < 0xE0 else 3 if held[0] < 0xF0 else 4
        if len(held) < needed:
            self._fill()

    def _read_until(self, delimiter: bytes) -> bytes:
        """Everything up to the delimiter, which is included, or up to the end of the file."""
        start = searched = self.at
        found = self.data.find(delimiter, start)
        end = len(self.data) if found < 0 else found + 1
        while self.filled < end:
            # The lexer takes a full buffer as a whole and goes on with an empty one.
            self.at = searched = self.filled if self.filled - searched >= _BUFFER_SIZE else searched
            self._fill()
        self.at = end
        return self.data[start:end]

    def _fill(self) -> None:
        self.filled = min(len(self.data), self.at + _BUFFER_SIZE)

    def _rest_of_line(self) -> tuple[bytes, bool]:
        """The line without its end, and whether it had one.

        The CR of a CRLF stays, because the lexer looks for a CR at the very end before it strips the LF.
        """
        line = self._read_until(b"\n")
        return line.removesuffix(b"\r").removesuffix(b"\n"), line.endswith(b"\n")

    def _check_line_length(self) -> None:
        if self.filled - self.at >= _LINE_LIMIT:
            ahead = self.data[self.at : self.at + _LINE_LIMIT]
            if b"\n" not in ahead and b"\r" not in ahead:
                raise self._refused(f"line too long (max {_LINE_LIMIT} bytes)", self._line_number())

    def _line_number(self) -> int:
        return self.data.count(b"\n", 0, self.at) + 1

    def _refused(self, message: str, line: int) -> UnitFileError:
        return UnitFileError([Problem(message, self.path, line)])


def _decode(data: bytes) -> str:
    """The bytes as text. As in Go, every byte that is not UTF-8 becomes one U+FFFD."""
    text = data.decode("utf-8", "surrogateescape")
    return text if text.isascii() else "".join("\ufffd" if "\udc80" <= char <= "\udcff" else char for char in text)
