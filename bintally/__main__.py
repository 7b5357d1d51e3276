"""`python -m bintally` is the same as `bintally`."""

from bintally.cli import main

if __name__ == "__main__":
    main()
