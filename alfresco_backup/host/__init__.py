"""The Alfresco host: where things are, its services, local schedules, and its lock.

In order: `host` is what every run begins with: settings, installation and repository; `installation` finds
the places, `properties` reads alfresco-global.properties for it; `services` knows how Alfresco and PostgreSQL
are started, stopped and recognised, `postmaster` which processes use a data directory, `service_control` does
it; `schedules` reads cron and systemd for what starts backups; `lock` keeps runs of different Prefect servers
apart.

A place that does not exist is absent here and judged elsewhere (preflight). Nothing here knows of Prefect.
"""
