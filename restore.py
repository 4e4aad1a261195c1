"""The verbs `restore` and `undo` as earlier versions have them: `python restore.py [OPTIONS]`."""

import sys

from alfresco_backup.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["restore", *sys.argv[1:]]))
