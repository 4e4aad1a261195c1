"""The settings: what there is, what each expects, its default. Secrets are kept secret, all is frozen."""

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

ENV_FILE_VARIABLE = "ALFRESCO_BACKUP_ENV"
"""The environment variable that names the `.env`; without it, `.env` in the project's folder."""

PROJECT_DIRECTORY = Path(__file__).resolve().parents[2]
CONTAINER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
NO_HOME = "/nonexistent"
"""ALF_BASE_DIR of a host whose Alfresco is in containers: Debian's name for a home that there is not."""
HOST_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")

OFFSITE_KINDS = ("s3", "sftp", "rest", "azure", "gs", "b2", "swift", "rclone")
"""Kinds of repositories besides folders that restic knows (0.14 to 0.18)."""

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_BEFORE_A_SCHEME = re.compile(rf"[\s,]+(?={_SCHEME})")
"""Where one address of a list ends: a comma within one has no scheme behind it."""

PathList = Annotated[tuple[Path, ...], NoDecode]
WAL_COMMANDS = PROJECT_DIRECTORY / "deployments/wal"


class Settings(BaseSettings):
    """All settings. Names are the field names in upper case; `.env.example` explains each."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=False, allow_inf_nan=False
    )

    _libpq: dict[str, str] = PrivateAttr(default_factory=dict)
    _offsite: dict[str, str] = PrivateAttr(default_factory=dict)

    # PostgreSQL
    pghost: str = Field(description="host name or socket directory of the PostgreSQL server")
    pgport: int = Field(5432, ge=1, le=65535, description="port of the PostgreSQL server")
    pguser: str = Field(
        description="role that makes base backups (needs REPLICATION) and reads the alf_ tables"
    )
    pgpassword: SecretStr = Field(
        SecretStr(""), description="password of PGUSER; empty: peer, trust or .pgpass"
    )
    pgdatabase: str = Field("alfresco", description="Alfresco's database")
    pgsuperuser: str = Field(
        "postgres", description="role that may create restore points and switch WAL segments"
    )
    pgsuperpassword: SecretStr | None = Field(
        None, description="password of PGSUPERUSER; default: PGPASSWORD"
    )
    pg_bindir: Path | None = Field(None, description="folder of PostgreSQL's programs; default: found")
    pg_data_dir: Path | None = Field(None, description="data directory; default: found below ALF_BASE_DIR")

    # Places
    backup_dir: Path = Field(description="the repository: where backups are kept")
    alf_base_dir: Path = Field(description="where Alfresco is installed")
    contentstore_dir: Path | None = Field(None, description="main content store; default: dir.contentstore")
    extra_content_dirs: Annotated[dict[str, Path], NoDecode] = Field(
        default_factory=dict, description="further content stores: name=/path, separated by commas"
    )
    keystore_dir: Path | None = Field(None, description="keystore folder; default: dir.keystore")
    solr_backup_dirs: PathList = Field((), description="Solr backup folders, comma separated; default: found")
    solr_index_dirs: PathList = Field(
        (), description="live Solr index folders, comma separated; default: found"
    )
    solr_url: str = Field(
        "", description="Solr, as http://127.0.0.1:8983/solr: asked for index backups; empty: not asked"
    )
    solr_secret: SecretStr = Field(
        SecretStr(""), description="shared secret of Search Services 2; empty: none"
    )
    solr_backup_minutes: float = Field(
        60, gt=0, description="how long a backup waits for Solr's copies of its indexes"
    )
    pg_container: str = Field("", description="container of the PostgreSQL server; empty: none")
    alf_containers: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="containers of Alfresco in the order they are stopped, comma separated"
    )
    container_engine: str = Field(
        "", description="docker, podman or a path; default: the one that has the containers"
    )
    alf_host_name: str = Field("", description="name of this host in deployments, limits and mails")
    alf_start_command: str = Field(
        "", description="command that starts Alfresco without PostgreSQL; default: alfresco.sh"
    )
    alf_stop_command: str = Field(
        "", description="command that stops Alfresco without PostgreSQL; default: alfresco.sh"
    )
    pg_start_command: str = Field(
        "", description="command that starts PostgreSQL; default: alfresco.sh or pg_ctl"
    )
    pg_stop_command: str = Field(
        "", description="command that stops PostgreSQL; default: alfresco.sh or pg_ctl"
    )
    tomcat_pid_file: Path | None = Field(
        None, description="Tomcat's pid file; default: tomcat/temp/catalina.pid"
    )
    tomcat_port: int = Field(
        8080, ge=1, le=65535, description="Tomcat's HTTP port, by which it is known to be down"
    )

    # Backup
    retention_days: int = Field(7, ge=1, le=36500, description="length of the recovery window in days")
    minimum_redundancy: int = Field(2, ge=1, le=1000, description="complete sets that are never removed")
    keep_weekly: int = Field(0, ge=0, le=1000, description="weeks of which the last complete set is kept")
    keep_monthly: int = Field(0, ge=0, le=1000, description="months of which the last complete set is kept")
    keep_yearly: int = Field(0, ge=0, le=1000, description="years of which the last complete set is kept")
    snapshot_thin_days: int = Field(
        2, ge=0, description="days after which contentstore-only snapshots are thinned to one a day"
    )
    clock_gap_days: int = Field(
        3, ge=1, le=36500, description="days without backup and WAL after which retention is on hold"
    )
    deletion_alarm_factor: float = Field(
        10, ge=1, description="retention is on hold after a run in which so many times the usual was deleted"
    )
    deletion_alarm_files: int = Field(100, ge=0, description="and in which more files than that were deleted")
    hot_window_hours: float = Field(
        48, ge=0, description="directories changed within it are always copied again"
    )
    parallel_copies: int = Field(
        default_factory=lambda: max(2, min(8, os.cpu_count() or 2)),
        ge=1,
        le=64,
        description="rsyncs side by side",
    )
    zstd_level: int = Field(1, ge=1, le=19, description="compression level of base backups")
    bandwidth_limit_mib: float = Field(0, description="limit of each copy in MiB/s; 0: none")

    # Time limits
    base_backup_limit_hours: float = Field(72, ge=24, description="limit of the base backup, at least a day")
    contentstore_limit_hours: float = Field(
        168, ge=24, description="limit of a contentstore copy, at least a day"
    )
    recovery_limit_hours: float = Field(
        72, ge=24, description="limit of extraction and WAL replay, at least a day"
    )
    archive_wait_minutes: float = Field(
        10, gt=0, description="how long to wait for a WAL segment in the archive"
    )
    service_stop_minutes: float = Field(
        10, gt=0, description="how long Alfresco or PostgreSQL may take to stop or start"
    )
    busy_wait_minutes: float = Field(
        240, ge=0, description="how long a restore waits for another run on the host"
    )
    backup_max_age_hours: float = Field(
        26, gt=0, description="age of the newest complete set at which an alert is sent"
    )
    drill_dir: Path | None = Field(
        None, description="folder of restore drills; default: drill in BACKUP_DIR. All in it is removed"
    )
    drill_read_cycle: int = Field(
        12,
        ge=1,
        description="drills within which all stored content and WAL is read again; 1: each reads all",
    )
    documents_scratch_hours: int = Field(
        4, ge=0, description="how long a database recovered to find documents in is kept for further searches"
    )
    nightly_time: str = Field(
        "",
        pattern=r"^(([01]\d|2[0-3]):[0-5]\d)?$",
        description="HH:MM, when the nightly set begins; default: 02:30, of several up to an hour later",
    )
    set_aside_days: int = Field(
        0, ge=0, description="age at which data set aside by a restore is removed; 0: never"
    )

    # WAL streaming
    wal_streaming: bool = Field(
        False, description="whether WAL is received over a replication slot as it is written: yes or no"
    )
    wal_streaming_max_lag_seconds: int = Field(
        300, ge=1, description="how long the receiver may be down or behind before an alert is sent"
    )

    # Off-site copy
    offsite_repository: str = Field(
        "", description="restic repository of the second copy, as s3:..., sftp:..., rest:... or a folder"
    )
    offsite_password: SecretStr = Field(SecretStr(""), description="password of that repository")
    offsite_password_file: Path | None = Field(None, description="file with that password, in its place")
    offsite_bandwidth_limit_kib: int = Field(
        0, ge=0, description="limit of what is sent off-site, in KiB/s; 0: none"
    )
    offsite_wal_minutes: int = Field(5, ge=1, le=59, description="minutes between copies of the WAL archive")
    offsite_grace_days: int = Field(
        30, ge=0, le=36500, description="days for which a removed set stays in the off-site copy"
    )
    offsite_prune: bool = Field(
        False, description="whether this host removes old sets from the off-site copy: yes or no"
    )
    offsite_check_cycle: int = Field(
        12, ge=1, le=256, description="weekly checks within which all of the off-site copy is read"
    )
    offsite_max_age_hours: float = Field(
        50, gt=0, description="age of the newest complete set off-site that raises the alarm"
    )
    offsite_wal_max_age_minutes: int = Field(
        60, ge=1, description="age of the off-site copy of the WAL archive that raises the alarm"
    )

    # Upload of documents
    alf_api_url: str = Field(
        "", description="address of Alfresco's web application for uploads, as http://127.0.0.1:8080/alfresco"
    )
    alf_api_user: str = Field("", description="Alfresco user who uploads documents")
    alf_api_password: SecretStr = Field(SecretStr(""), description="password of ALF_API_USER in Alfresco")

    # Mail
    customer_name: str = Field("", description="named in the subject of mails")
    smtp_host: str = Field("", description="mail server; empty: no mail is sent")
    smtp_port: int = Field(587, ge=1, le=65535, description="port of the mail server")
    smtp_user: str = Field("", description="login at the mail server; empty: none")
    smtp_password: SecretStr = Field(SecretStr(""), description="password at the mail server")
    smtp_type: Literal["SSL", "STARTTLS", "INSECURE"] = Field(
        "STARTTLS", description="encryption to the mail server"
    )
    smtp_timeout_seconds: float = Field(20, gt=0, le=600, description="limit of each step of sending a mail")
    alert_email: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="who gets the mails, comma separated"
    )
    alert_from: str = Field("", description="sender of the mails; default: SMTP_USER")
    email_alert_mode: Literal["failure_only", "both", "none"] = Field(
        "failure_only", description="failure_only: failures and recoveries; both: successes too; none"
    )

    # Other ways to be told
    alert_urls: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="services that are told what mails tell, as apprise writes them, comma separated"
    )
    ping_url: SecretStr = Field(
        SecretStr(""),
        description="monitoring service that gets a signal from runs, as https://hc-ping.com/KEY",
    )
    metrics_file: Path | None = Field(
        None, description="file of metrics for node-exporter's textfile collector; its name ends in .prom"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what env_file passes: it merges file and environment itself, so that it can name both."""
        return (init_settings,)

    @field_validator(
        "backup_dir",
        "alf_base_dir",
        "pg_bindir",
        "pg_data_dir",
        "contentstore_dir",
        "keystore_dir",
        "tomcat_pid_file",
        "drill_dir",
        "offsite_password_file",
        "metrics_file",
    )
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None:
            _require_absolute(value)
        return value

    @field_validator("solr_backup_dirs", "solr_index_dirs", mode="before")
    @classmethod
    def _path_list(cls, value: Any) -> Any:
        paths = _split(value) if isinstance(value, str) else value
        for path in paths:
            _require_absolute(Path(path))
        return paths

    @field_validator("bandwidth_limit_mib")
    @classmethod
    def _bandwidth(cls, value: float) -> float:
        if value != 0 and not 0.04 <= value <= 1024:
            raise ValueError("expected 0, for none, or 0.04 to 1024")
        return value

    @field_validator("offsite_repository")
    @classmethod
    def _offsite_form(cls, value: str) -> str:
        kind, colon, _ = value.partition(":")
        if value and not value.startswith("/") and not (colon and kind in OFFSITE_KINDS):
            raise ValueError(f"expected an absolute folder or one of {', '.join(OFFSITE_KINDS)} and a colon")
        return value

    @field_validator("alf_api_url", "solr_url")
    @classmethod
    def _web_address(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            return value
        try:
            parts = urlsplit(value)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            whole = False
        if not whole or "@" in parts.netloc or parts.query or parts.fragment or "/api/" in f"{parts.path}/":
            end = "/alfresco" if info.field_name == "alf_api_url" else "/solr"
            raise ValueError(f"expected http:// or https://, a host and the path up to {end}, no more")
        return value.rstrip("/")

    @field_validator("alert_email", mode="before")
    @classmethod
    def _address_list(cls, value: Any) -> Any:
        addresses = _split(value) if isinstance(value, str) else value
        wrong = [address for address in addresses if "@" not in address]
        if wrong:
            raise ValueError("expected mail addresses separated by commas")
        return addresses

    @field_validator("alert_urls", mode="before")
    @classmethod
    def _service_list(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        urls = [item.strip() for item in _BEFORE_A_SCHEME.split(value.strip().strip(","))]
        if not all(re.fullmatch(rf"{_SCHEME}\S+", url) for url in urls):
            raise ValueError("expected addresses such as ntfys://ntfy.example.com/topic with commas between")
        return urls

    @field_validator("metrics_file")
    @classmethod
    def _collected(cls, value: Path | None) -> Path | None:
        if value is not None and value.suffix != ".prom":
            raise ValueError("expected a name that ends in .prom: node-exporter reads no other")
        return value

    @field_validator("ping_url")
    @classmethod
    def _ping_address(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text and not re.fullmatch(r"https?://[^/\s?#]+[^\s#]*", text):
            raise ValueError("expected http:// or https:// and what the names of runs can be put behind")
        return value

    @field_validator("extra_content_dirs", mode="before")
    @classmethod
    def _named_paths(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [item.partition("=") for item in _split(value)]
        for name, _, path in pairs:
            if (
                not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name)
                or name == "contentstore"
                or not path.startswith("/")
            ):
                raise ValueError(
                    "expected name=/absolute/path items separated by commas, e.g. deleted=/srv/deleted"
                )
            _require_absolute(Path(path))
        if len({name for name, _, _ in pairs}) < len(pairs):
            raise ValueError("expected a different name for each path")
        return {name: path for name, _, path in pairs}

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        host = values.get("alf_host_name") or socket.gethostname()
        if not HOST_NAME_PATTERN.fullmatch(host):
            raise ValueError(f"ALF_HOST_NAME={host!r}: expected letters, digits, dots and dashes")
        contained = {"alf_base_dir": NO_HOME} if values.get("pg_container") else {}
        return {**contained, **values, "alf_host_name": host}

    @field_validator("alf_containers", mode="before")
    @classmethod
    def _container_list(cls, value: Any) -> Any:
        return _split(value) if isinstance(value, str) else value

    @field_validator("pg_container", "alf_containers")
    @classmethod
    def _container_names(cls, value: Any) -> Any:
        names = [value] if isinstance(value, str) else list(value)
        wrong = [name for name in names if name and not CONTAINER_NAME.fullmatch(name)]
        if wrong or len(set(names)) < len(names):
            raise ValueError("expected different names of containers: letters, digits, `_`, `.` and `-`")
        return value

    @model_validator(mode="after")
    def _containers_whole(self) -> "Settings":
        if bool(self.pg_container) != bool(self.alf_containers):
            missing = "ALF_CONTAINERS" if self.pg_container else "PG_CONTAINER"
            raise ValueError(f"{missing} is missing; PG_CONTAINER and ALF_CONTAINERS go together")
        if self.pg_container and not self.wal_streaming:
            raise ValueError("WAL_STREAMING=no; expected yes with PG_CONTAINER: archive_command runs inside")
        commands = {"PG_START_COMMAND": self.pg_start_command, "PG_STOP_COMMAND": self.pg_stop_command}
        commands |= {"ALF_START_COMMAND": self.alf_start_command, "ALF_STOP_COMMAND": self.alf_stop_command}
        given = [name for name, value in commands.items() if value]
        if self.pg_container and given:
            raise ValueError(f"{given[0]} is set; with PG_CONTAINER the engine stops and starts them")
        return self

    @model_validator(mode="after")
    def _offsite_whole(self) -> "Settings":
        if self.offsite_repository and not (
            self.offsite_password.get_secret_value() or self.offsite_password_file
        ):
            raise ValueError(
                "OFFSITE_PASSWORD is missing; expected with OFFSITE_REPOSITORY, or OFFSITE_PASSWORD_FILE"
            )
        return self

    @model_validator(mode="after")
    def _upload_whole(self) -> "Settings":
        needed = {"ALF_API_USER": self.alf_api_user, "ALF_API_PASSWORD": self.alf_api_password}
        missing = [name for name, value in needed.items() if not value]
        if self.alf_api_url and missing:
            raise ValueError(f"{missing[0]} is missing; expected with ALF_API_URL")
        return self

    @property
    def offsite_variables(self) -> dict[str, str]:
        """What restic gets besides, of the variables in offsite.py. load_settings fills it."""
        return self._offsite

    @property
    def libpq(self) -> dict[str, str]:
        """What psql and pg_basebackup get besides, of the variables in libpq.py. load_settings fills it."""
        return self._libpq

    @property
    def superuser_password(self) -> SecretStr:
        return self.pgsuperpassword if self.pgsuperpassword is not None else self.pgpassword


def _require_absolute(path: Path) -> None:
    if not path.is_absolute():
        raise ValueError("expected an absolute path")
    if ".." in path.parts:
        raise ValueError("expected a path without `..`")


def _split(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())
