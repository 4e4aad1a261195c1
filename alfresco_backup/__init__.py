"""Backup and restore of an Alfresco host without Prefect: one folder a subject, imports go down only."""
