-- The engine: one process for the whole editor, started on demand, and again on demand when it has ended.

local config = require("sla.config")

local M = {}

local process -- { job, partial = a line that has not ended, log = its last words on stderr, model = from its ready }
local handlers = {} -- of running requests, by id: called with each event, at last with done, error or { type = "gone" }
local waiting = {} -- to call at the next ready
local last_id = 0
local refused = {} -- fields that this engine does not know, though its ready let expect it
local failures = 0 -- ends since the last done: automatic requests give up at three
local log = {} -- the last lines in both directions

local function note(direction, line)
  table.insert(log, direction .. " " .. line)
  if #log > 400 then table.remove(log, 1) end
end

function M.notify(message, level)
  vim.notify("sla: " .. message, level or vim.log.levels.ERROR)
end

function M.log() return vim.list_extend({}, log) end

-- The model's part of ready; nil before it has come.
function M.model() return process and process.model end

function M.is_running() return process ~= nil end

function M.pid() return process and vim.fn.jobpid(process.job) end

-- Whether requests may have what protocol 1 got for editors: truncate, suffix_tokens, context and the fields behind them.
-- An engine that knows them says in its ready whether the model fills gaps; one that refuses a field all the same is believed.
function M.knows(field)
  local model = M.model()
  return model ~= nil and type(model.fill) == "boolean" and not refused[field]
end

function M.fills_gaps() return M.model() ~= nil and M.model().fill == true end

function M.chats() return M.model() ~= nil and M.model().chat == true end

-- Events of this id are wanted no longer, and the engine is told so.
function M.cancel(id)
  if not handlers[id] then return end
  handlers[id] = nil
  last_id = last_id + 1
  M.write({ type = "cancel", id = last_id, target = id })
end

-- The protocol's lines are UTF-8, which text in a buffer need not be: what is not becomes U+FFFD.
function M.as_utf8(text)
  return (text:gsub("[\128-\255]+", function(run)
    local kept, i = {}, 1
    while i <= #run do
      local lead, second = run:byte(i, i + 1)
      local length = lead >= 0xF0 and 4 or lead >= 0xE0 and 3 or 2
      local least = lead == 0xE0 and 0xA0 or lead == 0xF0 and 0x90 or 0x80
      local most = lead == 0xED and 0x9F or lead == 0xF4 and 0x8F or 0xBF
      local character = run:sub(i, i + length - 1)
      local ok = lead >= 0xC2 and lead <= 0xF4 and second and second >= least and second <= most
      if ok and #character == length and character:find("^.[\128-\191]+$") then
        table.insert(kept, character)
        i = i + length
      else
        table.insert(kept, "\239\191\189")
        i = i + 1
      end
    end
    return table.concat(kept)
  end))
end

function M.write(message)
  if not process then return end
  local line = M.as_utf8(vim.json.encode(message))
  note(">", line)
  pcall(vim.fn.chansend, process.job, line .. "\n") -- one that has just ended tells on_exit
end

-- Sends a generate request to a ready engine; its id.
function M.generate(fields, handler)
  last_id = last_id + 1
  fields.id = last_id
  handlers[last_id] = handler
  M.write(fields)
  return last_id
end

-- What an engine may not know yet, as a field or in this use of it.
local optional = {}
for _, field in ipairs({ "truncate", "suffix_tokens", "context", "path", "prediction", "max_tokens", "include" }) do
  optional[field] = true
end

-- A field that was refused by name is left out from now on. True where that can help.
function M.refuse(event, fields)
  local field = event.field
  if event.code ~= "invalid_request" or fields[field or ""] == nil or refused[field] or not optional[field] then return false end
  refused[field] = true
  return true
end

local function handle(event)
  if event.type == "ready" then
    process.model = type(event.model) == "table" and event.model or {}
    local calls = waiting
    waiting = {}
    for _, call in ipairs(calls) do call() end
    return
  end
  local handler = handlers[event.id]
  if event.type == "done" or event.type == "error" then
    if event.id ~= nil then handlers[event.id] = nil end
    if event.type == "done" then failures = 0 end
  end
  if handler then handler(event) end
  if event.type == "error" and event.id == vim.NIL then M.notify(tostring(event.message)) end
end

-- Data comes in pieces that may end inside a line: the first item goes on with the last piece's last one.
local function read(this, data)
  for i, text in ipairs(data) do
    if i > 1 then
      local line = table.concat(this.partial)
      this.partial = {}
      if line ~= "" and this == process then
        note("<", line)
        local ok, event = pcall(vim.json.decode, line)
        if ok and type(event) == "table" then handle(event) end
      end
    end
    table.insert(this.partial, text)
  end
end

local function ended(this, status)
  if this ~= process then return end
  process = nil
  failures = failures + 1
  waiting = {}
  local gone = handlers
  handlers = {}
  for _, handler in pairs(gone) do handler({ type = "gone" }) end
  local words = vim.trim(this.log)
  local hint = "it is started again when it is needed"
  if failures >= 3 then hint = "it ended three times, so only :SlaComplete or :SlaRestart starts it again" end
  M.notify(("the engine ended with %d; %s%s"):format(status, hint, words ~= "" and "\n" .. words or ""))
end

-- The command line that start() runs.
function M.command_line()
  local options = config.options
  local command = type(options.command) == "table" and vim.deepcopy(options.command) or { options.command }
  command[1] = vim.fn.expand(tostring(command[1]))
  for _, name in ipairs({ "model", "reward" }) do
    if options[name] then vim.list_extend(command, { "--" .. name, vim.fn.expand(options[name]) }) end
  end
  return command
end

local missing -- a program that was looked for in vain, and told

-- Starts the engine where none runs. Automatic callers are told of a missing program once, and give up after three failures.
local function start(automatic)
  if process then return true end
  if automatic and failures >= 3 then return false end
  local command = M.command_line()
  if vim.fn.executable(command[1]) == 0 then
    if not automatic or missing ~= command[1] then M.notify("there is no program " .. command[1] .. "; set the option command") end
    missing = command[1]
    return false
  end
  missing = nil
  refused = {}
  local this = { partial = {}, log = "" }
  this.job = vim.fn.jobstart(command, {
    on_stdout = function(_, data) read(this, data) end,
    on_stderr = function(_, data) this.log = (this.log .. table.concat(data, "\n")):sub(-1000) end,
    on_exit = function(_, status) ended(this, status) end,
  })
  if this.job <= 0 then
    M.notify("the program " .. command[1] .. " cannot be run")
    return false
  end
  process = this
  return true
end

-- Calls back when the engine is ready: at once where it is, never where it cannot be started.
function M.when_ready(automatic, call)
  if M.model() then return call() end
  if start(automatic) then table.insert(waiting, call) end
end

-- Ends the engine; the next request starts it anew.
function M.stop()
  local this = process
  process = nil
  failures = 0
  missing = nil
  waiting = {}
  local gone = handlers
  handlers = {}
  for _, handler in pairs(gone) do handler({ type = "gone" }) end
  if this then vim.fn.jobstop(this.job) end
end

return M
