"""What Redis runs of the store: each script as a whole, whichever router calls it."""

_BEGINNING = """
local PREFIX = 'mistral-serve:responses-1:'
local AGES, SIZES, USED = PREFIX .. 'ages', PREFIX .. 'sizes', PREFIX .. 'used'
local RUNNING = PREFIX .. 'running'
local EVERYONE = ''
local keep_s, now_s = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now_s then
    local time = redis.call('TIME')
    now_s = time[1] + time[2] / 1e6
end

local function key(name)
    return PREFIX .. 'response:' .. name
end

local function events(name)
    return PREFIX .. 'events:' .. name
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
    redis.call('UNLINK', events(name))
    redis.call('ZREM', RUNNING, name)
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

local function runs(name, owner)
    local found = redis.call('HMGET', key(name), 'status', 'owner')
    local is_running = found[1] == 'queued' or found[1] == 'in_progress'
    return is_running and (owner == '' or owner == found[2])
end

local function seen(name)
    redis.call('HSET', key(name), 'seen_s', now_s)
    redis.call('ZADD', RUNNING, now_s, name)
end

local function append(name, first, count, at)
    local kept = redis.call('LLEN', events(name))
    if count > 0 and kept < first then
        return nil
    end
    local bytes = 0
    for n = kept - first, count - 1 do
        local event = ARGV[at + n]
        redis.call('RPUSH', events(name), event)
        bytes = bytes + #event
    end
    if bytes > 0 then
        redis.call('HINCRBY', key(name), 'event_bytes', bytes)
    end
    return bytes
end
"""
"""Arguments 1 and 2 are the seconds for which responses are kept, and the time, if it is not to be
Redis' own. A name is a tenant, a slash and an id. All keys end by themselves when no router is left
that could remove them: with what they list. Where Redis' memory is full, it refuses what would take
more, unless the script has written before: so contents come first where something is added, and go
first where it is removed."""

PUT = f"""{_BEGINNING}
local name, bytes, share, most, count = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[8]
local owner = ARGV[9 + count]
redis.call('HSET', key(name), 'created_s', now_s, unpack(ARGV, 10 + count))
redis.call('HDEL', key(name), 'event_bytes', 'owner', 'claims')
redis.call('UNLINK', events(name))
append(name, 0, tonumber(count), 9)
if owner ~= '' then
    redis.call('HSET', key(name), 'owner', owner)
end
redis.call('ZADD', AGES, now_s, name)
redis.call('ZADD', ages(tenant(name)), now_s, name)
resize(name, bytes + (redis.call('HGET', key(name), 'event_bytes') or 0))
if runs(name, '') then
    seen(name)
end
remove_expired()
make_room(name, share, most)
local keys = {{key(name), events(name), RUNNING, AGES, ages(tenant(name)), SIZES, USED}}
for _, each in ipairs(keys) do
    redis.call('PEXPIRE', each, math.ceil(keep_s * 1000))
end
"""
"""Arguments: name, size without events, a tenant's share, the size of all, the first event's
number, how many they are, the events, the owner, and pairs of a field and its value."""

GET = f"""{_BEGINNING}
local found = redis.call('HMGET', key(ARGV[3]), 'created_s', unpack(ARGV, 4))
if not found[1] or tonumber(found[1]) <= now_s - keep_s then
    return false
end
table.remove(found, 1)
return found
"""
"""Arguments: name and fields. Returns the fields."""

EVENTS = f"""{_BEGINNING}
local name, first, last = ARGV[3], ARGV[4], ARGV[5]
local found = redis.call('HMGET', key(name), 'created_s', 'status')
if not found[1] or tonumber(found[1]) <= now_s - keep_s then
    return false
end
return {{found[2], redis.call('LRANGE', events(name), first, last)}}
"""
"""Arguments: name, and the numbers of the first and the last event. Returns status and events."""

DELETE = f"""{_BEGINNING}
remove_expired()
return remove(ARGV[3])
"""
"""Argument: name."""

ADVANCE = f"""{_BEGINNING}
local name, bytes, share, most = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local first, count, owner = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9 + ARGV[8]]
if not runs(name, owner) or not append(name, first, count, 9) then
    return 0
end
redis.call('HSET', key(name), unpack(ARGV, 10 + count))
resize(name, bytes + (redis.call('HGET', key(name), 'event_bytes') or 0))
if runs(name, '') then
    seen(name)
else
    redis.call('HDEL', key(name), 'request')
    redis.call('ZREM', RUNNING, name)
end
make_room(name, share, most)
return 1
"""
"""The arguments of PUT."""

REPORT = f"""{_BEGINNING}
local owner, share, most = ARGV[3], ARGV[4], ARGV[5]
local running, at, place = {{}}, 6, 0
while ARGV[at] do
    local name, first, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local added = runs(name, owner) and append(name, first, count, at + 3)
    if added then
        seen(name)
        running[#running + 1] = place
        if added > 0 then
            resize(name, redis.call('HGET', SIZES, name) + added)
            make_room(name, share, most)
        end
    end
    at, place = at + 3 + count, place + 1
end
return running
"""
"""Arguments: owner, a tenant's share, the size of all, and of each response its name, the number of
its first event, how many they are, and the events. Returns the places of those that run, from 0."""

CLAIM = f"""{_BEGINNING}
local owner, silent_s = ARGV[3], ARGV[4]
local names = redis.call('ZRANGEBYSCORE', RUNNING, '-inf', now_s - silent_s, 'LIMIT', 0, 1000)
for _, name in ipairs(names) do
    if not runs(name, '') then
        redis.call('ZREM', RUNNING, name)
    elseif redis.call('HGET', key(name), 'owner') ~= owner then
        redis.call('HSET', key(name), 'owner', owner)
        seen(name)
        local claims = redis.call('HINCRBY', key(name), 'claims', 1)
        local fields = redis.call('HMGET', key(name), unpack(ARGV, 5))
        return {{name, claims, redis.call('LRANGE', events(name), 0, -1), unpack(fields)}}
    end
end
return false
"""
"""Arguments: owner, seconds, and fields. Returns name, number of claims, events, and the fields."""

EXPIRE = f"""{_BEGINNING}
return remove_expired()
"""
"""Returns how many were removed; there may be more."""
