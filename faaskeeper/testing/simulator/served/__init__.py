"""Servers of ZooKeeper's protocol in the simulator: the real ``gateway`` on a simulated event loop.

Simulated are the loop's clock and its waiting, sockets, threads and the deployment. Clients are
bytes on connections; what each frame shows is compared with the model of the log.
"""
