-- The keys of a suggestion exist only while one is shown, as mappings of its buffer. So without a suggestion a key does
-- whatever it was mapped to, by whom and in whatever way, and nothing of that has to be imitated.

local config = require("sla.config")

local M = {}

M.actions = {} -- by option name: functions that return false where the key is not for them

local shown_in -- the buffer that has them
local saved = {} -- what they took the place of: { key, mapping = the buffer's own one before, or nil, callback = ours }

local has_mapset = vim.fn.exists("*mapset") == 1 -- not in Neovim 0.7
local names = { "accept", "accept_line", "accept_word", "next", "previous", "dismiss" }

-- The mapping of a key in the current buffer alone.
local function own_mapping(key)
  local mapping = vim.fn.maparg(key, "i", false, true)
  if mapping.buffer ~= 1 then return nil end
  if mapping.callback then -- as a function, which Neovim 0.7 gives only here
    for _, other in ipairs(vim.api.nvim_buf_get_keymap(0, "i")) do
      if other.lhs == mapping.lhs then mapping.callback = other.callback end
    end
  end
  return mapping
end

local function in_buffer(buffer, call)
  if not vim.api.nvim_buf_is_loaded(buffer) then return end
  if vim.api.nvim_get_current_buf() == buffer then return call() end
  vim.api.nvim_buf_call(buffer, call)
end

local function restore(entry)
  local present = own_mapping(entry.key)
  if not present or present.callback ~= entry.callback then return end -- another plugin took the key meanwhile, and keeps it
  vim.api.nvim_buf_del_keymap(0, "i", entry.key)
  local mapping = entry.mapping
  if not mapping then return end
  if has_mapset then return vim.fn.mapset("i", false, mapping) end
  local rhs = (mapping.rhs or ""):gsub("<SID>", ("<SNR>%s_"):format(mapping.sid))
  vim.api.nvim_buf_set_keymap(0, "i", entry.key, rhs, {
    callback = mapping.callback,
    expr = mapping.expr == 1,
    noremap = mapping.noremap == 1,
    nowait = mapping.nowait == 1,
    silent = mapping.silent == 1,
    script = mapping.script == 1,
    desc = mapping.desc,
  })
end

-- Takes the keys off again.
function M.hide()
  if not shown_in then return end
  local buffer, entries = shown_in, saved
  shown_in, saved = nil, {}
  in_buffer(buffer, function()
    for _, entry in ipairs(entries) do restore(entry) end
  end)
end

-- Puts the keys onto a buffer, the current one.
function M.show(buffer)
  if shown_in == buffer then return end
  M.hide()
  shown_in = buffer
  for _, name in ipairs(names) do
    local key = config.options[name]
    if key then
      local entry = { key = key, mapping = own_mapping(key) }
      entry.callback = function()
        if M.actions[name]() then return end
        -- Keys typed ahead have changed the text, so this one is not for the suggestion: it goes where it went before.
        M.hide()
        vim.api.nvim_feedkeys(vim.api.nvim_replace_termcodes(key, true, false, true), "imt", false)
      end
      -- Not an <expr> mapping: Neovim may evaluate one before it has inserted the letters typed ahead of the key.
      local how = { callback = entry.callback, noremap = true, silent = true, nowait = true, desc = "sla: " .. name }
      vim.api.nvim_buf_set_keymap(buffer, "i", key, "", how)
      table.insert(saved, entry)
    end
  end
end

return M
