"""`python -m panoramas`, the same as the command `panoramas`."""

from panoramas.cli import main

if __name__ == "__main__":
    main()
