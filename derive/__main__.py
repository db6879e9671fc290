"""`python -m derive`: the same as the command `derive`."""

from derive.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
