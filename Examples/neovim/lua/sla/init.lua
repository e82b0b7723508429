-- Suggestions and rewrites by the sla engine.
--
--   require("sla").setup({ model = "~/models/model.gguf" })
--
-- Everything that can be set is in config.lua, and explained in doc/sla.txt (:help sla).

local config = require("sla.config")
local engine = require("sla.engine")
local keys = require("sla.keys")
local pieces = require("sla.pieces")
local suggest = require("sla.suggest")

local M = { is_set_up = false }

M.complete = function()
  if vim.api.nvim_get_mode().mode:find("^[iR]") then return suggest.complete() end
  vim.cmd("startinsert!")
  vim.defer_fn(suggest.complete, 0)
end
-- False where nothing is shown: kind is "all", "line" or "word".
M.accept = function(kind) return suggest.accept(kind or "all") end
M.next = function() return suggest.cycle(1) end
M.previous = function() return suggest.cycle(-1) end
M.dismiss = suggest.dismiss
M.visible = function() return suggest.visible() ~= nil end
M.status = suggest.status

-- Switches automatic suggestions on or off, in the current buffer alone where that is asked for.
function M.toggle(here)
  local buffer = vim.api.nvim_get_current_buf()
  local on
  if here then
    on = not suggest.is_automatic(buffer)
    vim.b[buffer].sla_auto = nil
    if suggest.is_automatic(buffer) ~= on then vim.b[buffer].sla_auto = on end
  else
    on = not config.options.auto
    config.options.auto = on
  end
  if on then suggest.changed() else suggest.leave() end
  engine.notify(("automatic suggestions are %s%s"):format(on and "on" or "off", here and " in this buffer" or ""), vim.log.levels.INFO)
end

function M.toggle_rewards()
  config.options.rewards = not config.options.rewards
  suggest.refresh()
end

function M.restart()
  engine.stop()
  suggest.reset()
  engine.when_ready(false, function() engine.notify("the engine is ready", vim.log.levels.INFO) end)
end

-- Shows what was said to the engine (>) and what it said (<) in a window of its own.
function M.log()
  vim.cmd("botright new")
  vim.bo.buftype, vim.bo.bufhidden, vim.bo.swapfile = "nofile", "wipe", false
  vim.api.nvim_buf_set_lines(0, 0, -1, true, engine.log())
  vim.bo.modifiable = false
  vim.cmd("normal! G")
end

local mapped -- the trigger that the last setup mapped

local function map()
  for name, action in pairs({
    complete = M.complete,
    accept = M.accept,
    ["accept-line"] = function() M.accept("line") end,
    ["accept-word"] = function() M.accept("word") end,
    next = M.next,
    previous = M.previous,
    dismiss = M.dismiss,
  }) do
    vim.keymap.set("i", "<Plug>(sla-" .. name .. ")", function() action() end)
  end
  keys.actions = {
    accept = M.accept,
    accept_line = function() return M.accept("line") end,
    accept_word = function() return M.accept("word") end,
    next = M.next,
    previous = M.previous,
    dismiss = M.dismiss,
  }
  if mapped and vim.fn.maparg(mapped, "i") == "<Plug>(sla-complete)" then vim.keymap.del("i", mapped) end
  mapped = config.options.trigger or nil
  -- A mapping that is there already is not taken away by a default.
  if mapped and vim.fn.maparg(mapped, "i") == "" then
    vim.keymap.set("i", mapped, "<Plug>(sla-complete)", { remap = true, desc = "sla: complete" })
  else
    mapped = nil
  end
end

local function highlight()
  -- Not links to Comment or NonText: in some colour schemes these look like text.
  vim.cmd("highlight default SlaCommitted guifg=#808080 ctermfg=244") -- what the engine has decided on
  vim.cmd("highlight default SlaDraft guifg=#808080 ctermfg=244 gui=italic cterm=italic") -- what it may still change
  vim.cmd("highlight default link SlaBranch SlaCommitted") -- what it dropped
  vim.cmd("highlight default link SlaInfo SlaDraft")
  -- From the least reward of a suggestion to its best.
  for i, colours in ipairs({ { "#b85450", 131 }, { "#b8854a", 137 }, { "#a0a04e", 143 }, { "#7aa05a", 107 }, { "#4fa36a", 71 } }) do
    vim.cmd(("highlight default SlaReward%d guifg=%s ctermfg=%d"):format(i, colours[1], colours[2]))
  end
end

local flushing -- a timer is on its way to take the waiting pieces on

-- Pieces that wait are taken on a second later, when nobody types by then.
local function flush_later()
  if flushing or not pieces.has_waiting() then return end
  flushing = true
  vim.defer_fn(function()
    flushing = false
    if vim.api.nvim_get_mode().mode ~= "n" then return flush_later() end
    if pieces.flush() then suggest.warm() end
  end, 1000)
end

local function watch()
  local group = vim.api.nvim_create_augroup("sla", {})
  local function on(events, callback)
    vim.api.nvim_create_autocmd(events, { group = group, callback = function(event) callback(event) end })
  end
  on({ "TextChangedI", "TextChangedP", "CursorMovedI", "WinEnter" }, function() suggest.changed() end)
  on("InsertEnter", function() vim.schedule(suggest.changed) end) -- the mode is still the one before
  on({ "CompleteChanged", "CompleteDone", "WinScrolled", "VimResized" }, function() suggest.refresh() end)
  on({ "InsertLeavePre", "InsertLeave", "BufLeave", "WinLeave" }, function() suggest.leave() end)
  on({ "BufEnter", "BufLeave", "BufWritePost" }, function()
    pieces.look()
    flush_later()
  end)
  on("TextYankPost", function(event)
    if vim.v.event.operator ~= "y" then return end
    pieces.add(event.buf, vim.v.event.regcontents)
    flush_later()
  end)
  on("ColorScheme", highlight)
  on("VimLeavePre", function() engine.stop() end)
end

-- Takes on options, in the place of those of an earlier call, and starts to watch. What is wrong with them is told by name.
function M.setup(given)
  M.is_set_up = true
  engine.stop()
  suggest.reset()
  pieces.reset()
  local problems = config.set(given)
  if #problems > 0 then engine.notify(table.concat(problems, "\nsla: ")) end
  highlight()
  map()
  watch()
end

return M
