"""The variables by which libpq, and with it psql and pg_basebackup, is told how to connect.

Those that say how are passed on, from the `.env` or the environment. Those that say where to, or how answers
look, are not: every connection of this software goes where the settings say, a drill's to the drill's server.
Source: "Environment Variables" in PostgreSQL's libpq documentation, 9.4 to 18; older programs pass over newer
ones.
"""

PASSED_ON = frozenset(
    {
        "PGPASSFILE",
        "PGCHANNELBINDING",
        "PGGSSDELEGATION",
        "PGGSSENCMODE",
        "PGGSSLIB",
        "PGKRBSRVNAME",
        "PGMAXPROTOCOLVERSION",
        "PGMINPROTOCOLVERSION",
        "PGREQUIREAUTH",
        "PGREQUIREPEER",
        "PGSSLCERT",
        "PGSSLCERTMODE",
        "PGSSLCOMPRESSION",
        "PGSSLCRL",
        "PGSSLCRLDIR",
        "PGSSLKEY",
        "PGSSLMAXPROTOCOLVERSION",
        "PGSSLMINPROTOCOLVERSION",
        "PGSSLMODE",
        "PGSSLNEGOTIATION",
        "PGSSLROOTCERT",
        "PGSSLSNI",
    }
)
NOT_PASSED_ON = frozenset(
    {
        "PGAPPNAME",
        "PGCLIENTENCODING",
        "PGCONNECT_TIMEOUT",
        "PGDATESTYLE",
        "PGGEQO",
        "PGHOSTADDR",
        "PGLOADBALANCEHOSTS",
        "PGLOCALEDIR",
        "PGOPTIONS",
        "PGREQUIRESSL",
        "PGSERVICE",
        "PGSERVICEFILE",
        "PGSYSCONFDIR",
        "PGTARGETSESSIONATTRS",
        "PGTZ",
    }
)
