"""``python -m critical``."""

import sys

if __name__ == "__main__":
    # Python has put the working directory first, where a file may have any library's name.
    if not sys.flags.safe_path:
        del sys.path[0]
    from critical.cli import main

    main()
