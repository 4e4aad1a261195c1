"""The steps of `backup`, in its order: begin, preflight, base backup, content stores, configuration, WAL
audit, retention, report. Each is a Prefect task around what alfresco_backup does without Prefect.
"""
