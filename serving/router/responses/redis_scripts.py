"""What Redis runs of the store: each script as a whole, whichever router calls it."""

_BEGINNING = """
local PREFIX = 'mistral-serve:responses-1:'
local AGES, SIZES, USED = PREFIX .. 'ages', PREFIX .. 'sizes', PREFIX .. 'used'
local EVERYONE = ''
local keep_s, now_s = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now_s then
    local time = redis.call('TIME')
    now_s = time[1] + time[2] / 1e6
end

local function key(name)
    return PREFIX .. 'response:' .. name
end

local function tenant(name)
    return string.match(name, '^[^/]*')
end

local function ages(of)
    return AGES .. ':' .. of
end

local function resize(name, bytes)
    local more = bytes - tonumber(redis.call('HGET', SIZES, name) or 0)
    redis.call('HSET', SIZES, name, bytes)
    redis.call('HINCRBY', USED, tenant(name), more)
    redis.call('HINCRBY', USED, EVERYONE, more)
end

local function remove(name)
    local removed = redis.call('UNLINK', key(name))
    if redis.call('HEXISTS', SIZES, name) == 1 then
        resize(name, 0)
        redis.call('HDEL', SIZES, name)
    end
    redis.call('ZREM', AGES, name)
    redis.call('ZREM', ages(tenant(name)), name)
    return removed
end

local function remove_expired()
    local names = redis.call('ZRANGEBYSCORE', AGES, '-inf', now_s - keep_s, 'LIMIT', 0, 100)
    for _, name in ipairs(names) do
        remove(name)
    end
    return #names
end

local function remove_oldest(kept, of, by_age, limit)
    while tonumber(redis.call('HGET', USED, of) or 0) > limit do
        local oldest = redis.call('ZRANGE', by_age, 0, 1)
        local name = oldest[1] == kept and oldest[2] or oldest[1]
        if not name or name == kept then
            return
        end
        remove(name)
    end
end

local function make_room(kept, share, most)
    local of = tenant(kept)
    remove_oldest(kept, of, ages(of), tonumber(share))
    remove_oldest(kept, EVERYONE, AGES, tonumber(most))
end

local function runs(name)
    local status = redis.call('HGET', key(name), 'status')
    return status == 'queued' or status == 'in_progress'
end
"""
"""Arguments 1 and 2 are the seconds for which responses are kept, and the time, if it is not to be
Redis' own. A name is a tenant, a slash and an id. All keys end by themselves when no router is left
that could remove them: with what they list. Where Redis' memory is full, it refuses what would take
more, unless the script has written before: so contents come first where something is added, and go
first where it is removed."""

PUT = f"""{_BEGINNING}
local name, bytes, share, most = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
redis.call('HSET', key(name), 'created_s', now_s, 'seen_s', now_s, unpack(ARGV, 7))
redis.call('ZADD', AGES, now_s, name)
redis.call('ZADD', ages(tenant(name)), now_s, name)
resize(name, bytes)
remove_expired()
make_room(name, share, most)
for _, each in ipairs({{key(name), AGES, ages(tenant(name)), SIZES, USED}}) do
    redis.call('PEXPIRE', each, math.ceil(keep_s * 1000))
end
"""
"""Arguments: name, size, a tenant's share, the size of all, and pairs of a field and its value."""

GET = f"""{_BEGINNING}
local found = redis.call('HMGET', key(ARGV[3]), 'created_s', 'seen_s', unpack(ARGV, 4))
if not found[1] or tonumber(found[1]) <= now_s - keep_s then
    return false
end
table.remove(found, 1)
found[1] = tostring(now_s - found[1])
return found
"""
"""Arguments: name and fields. Returns the seconds since it was last reported, and the fields."""

DELETE = f"""{_BEGINNING}
remove_expired()
return remove(ARGV[3])
"""
"""Argument: name."""

ADVANCE = f"""{_BEGINNING}
local name, bytes, share, most = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
if not runs(name) then
    return 0
end
redis.call('HSET', key(name), 'seen_s', now_s, unpack(ARGV, 7))
resize(name, bytes)
make_room(name, share, most)
return 1
"""
"""The arguments of PUT."""

SEEN = f"""{_BEGINNING}
local running = {{}}
for i = 3, #ARGV do
    if runs(ARGV[i]) then
        redis.call('HSET', key(ARGV[i]), 'seen_s', now_s)
        running[#running + 1] = i - 3
    end
end
return running
"""
"""Arguments: names. Returns the places of those that run, from 0."""

EXPIRE = f"""{_BEGINNING}
return remove_expired()
"""
"""Returns how many were removed; there may be more."""
