"""What people type: verbs, options, questions, form fields, and how an answer is told.

Read `commands` (the table of verbs), then `entry` (environment, exit codes, JSON), `flow_arguments` and
`restore_arguments` (from options to the parameters of a flow), `restore_prompts` and `restore_display` (a
restore on a terminal), `forms` (the same parameters in Prefect's form). Only flows/by_hand.py starts flows.
"""
