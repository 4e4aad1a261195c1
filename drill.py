"""The verb `drill` for cron lines of earlier versions: `python drill.py [ENV_FILE] [OPTIONS]`."""

import sys

from alfresco_backup.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["drill", *sys.argv[1:]]))
