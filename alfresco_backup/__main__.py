"""`python -m alfresco_backup COMMAND`: status, pin, unpin, configure, doctor. Needs no Prefect."""

import sys

from alfresco_backup.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
