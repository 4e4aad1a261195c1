"""From a request, the backups and the state of the host to a plan or a refusal. Pure.

Read request (what is asked), facts (what is known of the host), plan (the result), then planner, which calls
window (the restorable times), choose_backup, choose_content, plan_database and steps; plan_text shows a plan.
A plan is valid for the facts it was made from; it does not promise that every program and permission is
there: see recovery/obstacles.
"""
