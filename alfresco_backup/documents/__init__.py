"""One document back: found in the live database or in one recovered to a target time, exported or uploaded.

Read nodes (what a document is), criteria (what is asked for), queries (Alfresco's tables), search (live, then
recovered), scratch (the recovered database and its folder), content (where a document's file is), export, api
and upload. Neither finding nor exporting changes the live host; an upload goes through Alfresco's REST API,
never to its database. Tags, categories, comments and associations do not come back.
"""
