"""Files of Alfresco outside the keystore folder without which its encrypted properties cannot be read.

Keystores that alfresco-global.properties names elsewhere (`encryption.keystore.location`, the master keys of
the encrypted content store), and the scripts and service files that give a keystore's password to Java, as
Alfresco 7 and later want it (`-Dmetadata-keystore.password`).
"""

import os
import re
from pathlib import Path

from alfresco_backup.host.installation import Installation
from alfresco_backup.host.properties import parse_properties, resolve
from alfresco_backup.system.accounts import Account, acting_as, owner_of_program

_KEYSTORE = re.compile(r"(keystore|truststore)[\w.-]*\.(location|path)$", re.IGNORECASE)
_PASSWORD = re.compile(r"keystore[\w.-]*\.password", re.IGNORECASE)
OF_HOME = ("scripts/setenv.sh", "tomcat/bin/setenv.sh", "tomcat/scripts/ctl.sh", "alfresco.sh")
OF_SYSTEM = (
    "etc/systemd/system/*.service",
    "etc/systemd/system/*.service.d/*.conf",
    "lib/systemd/system/*.service",
    "etc/default/*",
    "etc/init.d/*",
    "etc/sysconfig/*",
)
LARGEST = 1 << 20


def named_keystores(installation: Installation) -> dict[str, Path]:
    """Properties that name a keystore outside the parts of the configuration, and what they name."""
    file = installation.properties_file
    values = parse_properties(file.read_text(encoding="latin-1")) if file else {}
    parts = installation.configuration_parts.values()
    found = {}
    for key in values:
        value = (resolve(values, key) or "").strip().removeprefix("file:")
        path = Path(os.path.normpath(value))  # a copy goes to the path of this name: it has no `..`
        if _KEYSTORE.search(key) and path.is_absolute() and not any(map(path.is_relative_to, parts)):
            found[key] = path
    return found


def unreadable_keystores(installation: Installation) -> dict[str, Path]:
    """Those that whoever wrote the properties cannot read: missing, or another account's."""
    account = _writer(installation)
    return {key: path for key, path in named_keystores(installation).items() if _text(path, account) is None}


def alfresco_files(installation: Installation, system: Path = Path("/")) -> dict[Path, Account | None]:
    """The files that are there, and the account that each is read as; None: this process's own.

    Scripts and service files are those of the home and of the machine below `system`.
    """
    account = _writer(installation)
    found = {
        path: account for path in named_keystores(installation).values() if _text(path, account) is not None
    }
    of_system = (path for pattern in OF_SYSTEM for path in sorted(system.glob(pattern)))
    for path in (*(installation.home / name for name in OF_HOME), *of_system):
        owner = owner_of_program(path)
        if _PASSWORD.search(_text(path, owner) or ""):
            found[path] = owner
    return found


def _writer(installation: Installation) -> Account | None:
    """The account that could have written the properties, and so chosen any path."""
    file = installation.properties_file
    return owner_of_program(file) if file else None


def _text(path: Path, account: Account | None) -> str | None:
    """What a file says, read as an account; None where that is not possible, or it is no small file."""
    with acting_as(account):
        try:
            if not path.is_file() or path.stat().st_size > LARGEST:
                return None
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
