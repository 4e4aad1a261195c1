"""The verb `backup` for cron lines of earlier versions: `python backup.py [ENV_FILE] [OPTIONS]`."""

import sys

from alfresco_backup.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["backup", *sys.argv[1:]]))
