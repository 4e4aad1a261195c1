"""The variables by which restic is told how to log in at the place of the off-site copy.

They are passed on, from the `.env` or the environment, to restic alone. Where the repository is, and its
password, are settings. Source: "Environment Variables" in restic's manual, 0.14 to 0.18.
"""

BEGINNINGS = ("AWS_", "AZURE_", "B2_", "GOOGLE_", "OS_", "RCLONE_", "RESTIC_REST_", "ST_")
PROGRAM_VARIABLES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "RESTIC_CACERT", "SSH_AUTH_SOCK"})


def is_for_restic(name: str) -> bool:
    """Whether a variable is passed on to restic."""
    return name.startswith(BEGINNINGS) or name in PROGRAM_VARIABLES
