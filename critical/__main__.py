"""``python -m critical``."""

from critical.cli import main

if __name__ == "__main__":
    main()
