-- Whether the board may be served: filled, in this run of the server. ``run`` comes from server_run.py.
--
-- KEYS  1 marker "the board is whole"
return redis.call('GET', KEYS[1]) == run and 1 or 0
