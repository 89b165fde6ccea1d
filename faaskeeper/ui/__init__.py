"""``fk ui``: a page in the browser on any deployment, served by Starlette and uvicorn (extra ``ui``).

From the bottom up; a module imports only those that come before it:

* ``settings``: how the page is reached, and by whom
* ``access``: a session with the deployment, opened again when it is lost; rights; errors as JSON
* ``follower``: what happens, for the pages that are open
* ``index``: the paths of the tree, for the search
* ``nodes``, ``changes``, ``past``, ``locks``, ``service``: the routes
* ``logins``, ``safety``: who may ask, and what is refused before anything is looked at
* ``app``, ``server``: all of it together, and listening

The page itself stands in ``static``: HTML, CSS and modules of JavaScript as they are served. It gets
data as JSON and shows it as text: nothing of a deployment is ever parsed as HTML.

Only ``fk ui`` imports this package, so no other command needs the extra.
"""
