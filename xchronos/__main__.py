"""`python -m xchronos ...` is xchronosctl; `python -m xchronos daemon ...` is xchronosd."""

import sys


def run() -> None:
    """Run one of the two programs, as if it had been called by its own name."""
    if sys.argv[1:2] == ["daemon"]:
        from xchronos.daemon.main import main as daemon  # noqa: PLC0415 - only one of the two is needed

        sys.argv[:2] = ["xchronosd"]
        daemon()
        return
    from xchronos.cli.main import main  # noqa: PLC0415 - only one of the two is needed

    main()


if __name__ == "__main__":
    run()
