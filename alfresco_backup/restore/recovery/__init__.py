"""The database of a restore: extraction, recovery settings, replay, verdict.

Before: observe (the state of the host), obstacles (what would stop a restore), restoration (the restore under
way). Then saved_wal, recovery_files with recovery_settings and host_settings, recovery_log and replay_end
(the verdict), configuration, report. Starting and stopping services is in host/; the order of the steps is in
flows/.
"""
