-- The windows of gateway/limits/window.py, for many requests in one call. Redis' clock decides.
-- KEYS[1]: the life of the data. KEYS[2..]: counters, hashes of slots with total, first and newest.
-- ARGV[1], as MessagePack: {life, corrections, requests}
--   corrections: {key, slot, amount}, left out if they are of another life of the data
--   requests: {{key, limit, cost}, ...}
-- Gives, as MessagePack: {life, milliseconds, answers}
--   answers: {index of the charge that waits longest or 0, milliseconds, total, newest, total, newest, ...}
local SPAN, SLOT_MS, KEEP_S = 120, 500, 62

local life, corrections, requests = unpack(cmsgpack.unpack(ARGV[1]))
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now = math.floor(now_ms / SLOT_MS)
local states = {}

local function state_of(key)
  local state = states[key]
  if state then return state end
  local found = redis.call('HMGET', KEYS[key], 'total', 'first', 'newest')
  state = {
    total = tonumber(found[1]) or 0,
    first = math.min(tonumber(found[2]) or now, now),
    newest = tonumber(found[3]) or 0,
    added = 0,
    changed = false,
  }
  for slot = state.first, now - SPAN - 1 do
    local gone = redis.call('HGET', KEYS[key], slot)
    if gone then
      state.total = state.total - gone
      redis.call('HDEL', KEYS[key], slot)
    end
    state.first, state.changed = slot + 1, true
  end
  states[key] = state
  return state
end

local function room_in_ms(key, over)
  local state = states[key]
  if not state.slots then
    local fields = redis.call('HGETALL', KEYS[key])
    state.slots = {}
    for n = 1, #fields, 2 do state.slots[fields[n]] = tonumber(fields[n + 1]) end
  end
  local slot = state.first
  while slot < now do
    over = over - (state.slots[string.format('%.0f', slot)] or 0)
    if over <= 0 then break end
    slot = slot + 1
  end
  return (slot + SPAN + 1) * SLOT_MS - now_ms
end

local lived = redis.call('GET', KEYS[1])
if not lived then
  lived = time[1] .. '.' .. time[2]
  redis.call('SET', KEYS[1], lived)
end

if life == lived then
  for _, correction in ipairs(corrections) do
    local key, slot, amount = unpack(correction)
    local state = state_of(key)
    local held = tonumber(redis.call('HGET', KEYS[key], slot))
    if held then
      amount = math.max(amount, -held)
      redis.call('HINCRBY', KEYS[key], slot, amount)
      state.total, state.changed = state.total + amount, true
    end
  end
end

local answers = {}
for number, charges in ipairs(requests) do
  local refused, wait_ms = 0, 0
  for index, charge in ipairs(charges) do
    local key, limit, cost = unpack(charge)
    local over = state_of(key).total + cost - limit
    if over > 0 then
      local room = room_in_ms(key, over)
      if room > wait_ms then refused, wait_ms = index, room end
    end
  end
  local answer = {refused, wait_ms}
  for _, charge in ipairs(charges) do
    local state = states[charge[1]]
    if refused == 0 then
      state.total, state.added, state.newest = state.total + charge[3], state.added + charge[3], now
    end
    answer[#answer + 1] = state.total
    answer[#answer + 1] = state.newest
  end
  answers[number] = answer
end

for key, state in pairs(states) do
  if state.added > 0 then redis.call('HINCRBY', KEYS[key], now, state.added) end
  if state.added > 0 or state.changed then
    redis.call('HSET', KEYS[key], 'total', state.total, 'first', state.first, 'newest', state.newest)
  end
  if state.added > 0 then redis.call('EXPIRE', KEYS[key], KEEP_S) end
end

return cmsgpack.pack({lived, now_ms, answers})
