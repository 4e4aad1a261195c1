"""What the backup and restore of an Alfresco host needs to know; nothing in here imports Prefect."""
