"""Keeps one tree equal to another, between ZooKeeper servers and deployments: ``fk mirror``.

*Why the target converges.* The mirror holds a set of *dirty* paths. Invariant: a path that is not
dirty has in the target what the source had at some read of it, and no change of it since then is
unknown. A recursive watch is set before the source is first read, and every path is dirty at first.
An event makes its path dirty. A path leaves the set only by being read, after that, and written to
the target. Events and reads come by one session, in order, so a change that the read did not see has
its event after the read, which makes the path dirty again. When the source rests, the set empties
and the trees are equal. Values between two reads of a path are skipped.

*What has no event.* A change of an ACL fires no watch, and a connection that was lost may have cost
events of persistent watches. So the source is *listed* again after each reconnect and every
``look_s`` seconds: one request for a node gives its (czxid, mzxid, aversion), and a path whose three
differ from those that were read is dirty. The same listing serves servers before 3.6, which have no
such watch, every second instead.

*A killed mirror.* There is no file of state: a new process makes all paths dirty and reads both
trees; what is equal is not written. Two facts are not in the trees, so a znode in the target, the
*mark* (:mod:`.marks`), has them: of which source the target is the mirror, and since when. Each
transaction of the mirror writes the mark too. So a znode of the target that is newer than its mark
was changed by somebody else.

*Other writers.* A mirror overwrites and deletes only what it has read or written itself: each write
is on condition of the version that it knows, and each delete too. What somebody else changes,
creates or deletes in the target is found by that condition, or at the next listing of the target;
then the mirror stops and says what it found. ``overwrite`` begins anew and makes the target equal.
A target that is neither empty nor a mirror of this source is refused without it, before anything is
changed. After the cut-over there is no mark: a mirror that is started again by mistake is refused.

*The source's root.* If it is gone the mirror stops: it is more likely a mistake than the wish to
delete everything.

Modules, from the bottom up: ``trees`` reads either side; ``checks`` says before the first write what
could not be copied; ``marks``; ``copying`` writes; ``following`` is the loop; ``cutting`` ends it.
"""
