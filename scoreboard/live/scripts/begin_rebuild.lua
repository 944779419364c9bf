-- Empty the board and let one rebuilder fill it; readers go to Postgres meanwhile.
--
-- KEYS  1 sorted set   2 hash   3 marker "whole"   4 rebuilder's token   5 sum of the players' versions
-- ARGV  1 token   2 seconds after which a rebuild counts as dead
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[5])
redis.call('SET', KEYS[4], ARGV[1], 'EX', ARGV[2])
return 1
