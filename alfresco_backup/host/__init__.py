"""The Alfresco host: places, services, local schedules, lock."""
