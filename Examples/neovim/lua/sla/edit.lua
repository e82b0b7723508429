-- :SlaEdit: lines are rewritten as told, and the difference is shown in a window of its own to accept or drop.

local config = require("sla.config")
local engine = require("sla.engine")

local M = {}

local namespace = vim.api.nvim_create_namespace("sla-edit")
local job -- { buffer, mark, old = lines, messages, view = its buffer, id, text, running, seed }

-- At the head of the first message, since not all chat templates take one of the role system.
local task = "Rewrite the SELECTION as the INSTRUCTION says. Answer with the new text of the SELECTION and nothing else:"
  .. " no explanation, no quotation marks, no code fence. Keep its indentation."

local function lines_of(buffer, from, to)
  return table.concat(vim.api.nvim_buf_get_lines(buffer, math.max(0, from), to, false), "\n")
end

-- The lines of an answer, out of the code fence that some models put around it all the same.
local function new_lines(text)
  local lines = vim.split(text:gsub("\r\n", "\n"):gsub("\n$", ""), "\n", { plain = true })
  if #lines >= 2 and lines[1]:find("^```") and lines[#lines]:find("^```%s*$") then lines = vim.list_slice(lines, 2, #lines - 1) end
  return lines
end

-- Where the old lines are now: the first and the one behind the last, from 0; nil where they have changed.
local function range()
  if not vim.api.nvim_buf_is_loaded(job.buffer) then return nil end
  local mark = vim.api.nvim_buf_get_extmark_by_id(job.buffer, namespace, job.mark, {})
  if not mark[1] then return nil end
  local first, last = mark[1], mark[1] + #job.old
  if not vim.deep_equal(vim.api.nvim_buf_get_lines(job.buffer, first, last, false), job.old) then return nil end
  return first, last
end

local function set_view(lines, title)
  if not vim.api.nvim_buf_is_valid(job.view) then return end
  vim.bo[job.view].modifiable = true
  vim.api.nvim_buf_set_lines(job.view, 0, -1, true, lines)
  vim.bo[job.view].modifiable = false
  for _, window in ipairs(vim.fn.win_findbuf(job.view)) do
    vim.wo[window].statusline = "sla: " .. title:gsub("%%", "%%%%")
  end
end

local function show_progress()
  set_view(vim.split(job.text, "\n", { plain = true }), ("rewriting, %d bytes so far; q drops it"):format(#job.text))
end

local function show_difference()
  job.new = new_lines(job.text)
  local diff = (vim.text and vim.text.diff or vim.diff)(
    table.concat(job.old, "\n") .. "\n",
    table.concat(job.new, "\n") .. "\n",
    { ctxlen = 1000000 }
  )
  local lines = vim.split(diff, "\n", { plain = true })
  while #lines > 0 and (lines[#lines] == "" or lines[#lines]:find("^\\ No newline")) do table.remove(lines) end
  if lines[1] and lines[1]:find("^@@") then table.remove(lines, 1) end
  if #lines == 0 then lines = vim.tbl_map(function(line) return " " .. line end, job.old) end
  local title = "<CR> accepts, q drops, r tries another, c tells more"
  if job.finish == "length" then title = title .. "; CUT OFF by edit_tokens" end
  vim.bo[job.view].filetype = "diff"
  set_view(lines, title)
end

local function forget()
  local this = job
  job = nil
  if not this then return end
  if this.running then engine.cancel(this.id) end
  if vim.api.nvim_buf_is_loaded(this.buffer) then vim.api.nvim_buf_clear_namespace(this.buffer, namespace, 0, -1) end
  if vim.api.nvim_buf_is_valid(this.view) then vim.api.nvim_buf_delete(this.view, { force = true }) end
  if vim.api.nvim_win_is_valid(this.window) then vim.api.nvim_set_current_win(this.window) end
end

local function handle(this, fields, event)
  if this ~= job then return end
  if event.type == "token" then
    this.text = this.text .. event.text
    if not this.drawing then -- a screen has no use for more than some pictures a second
      this.drawing = true
      vim.defer_fn(function()
        this.drawing = false
        if this == job and this.running then show_progress() end
      end, 50)
    end
  elseif event.type == "done" then
    this.running, this.finish, this.text = false, event.finish_reason, event.text
    show_difference()
  elseif event.type == "error" then
    this.running = false
    if engine.refuse(event, fields) then return M.send() end
    forget()
    engine.notify(tostring(event.message))
  elseif event.type == "gone" then
    this.running = false
    forget()
  end
end

-- Sends the conversation as it is. The old text is the guess at the new one, which makes what stays the same quick.
function M.send()
  local this = job
  local fields = { type = "generate", messages = this.messages, max_tokens = config.options.edit_tokens }
  if engine.knows("prediction") then fields.prediction = table.concat(this.new or this.old, "\n") end
  if this.seed then fields.decoder, fields.temperature, fields.seed = "sample", 0.7, this.seed end
  this.text, this.running = "", true
  show_progress()
  this.id = engine.generate(vim.deepcopy(fields), function(event) handle(this, fields, event) end)
end

-- Puts the new lines in the place of the old ones, which must be what they were.
function M.accept()
  if not job or job.running then return false end
  local first, last = range()
  local new, buffer = job.new, job.buffer
  if not first or not vim.bo[buffer].modifiable then
    engine.notify("the lines have changed since they were sent, so they stay as they are")
    return false
  end
  forget()
  vim.api.nvim_buf_set_lines(buffer, first, last, true, new)
  if vim.api.nvim_get_current_buf() == buffer then vim.api.nvim_win_set_cursor(0, { first + 1, 0 }) end
  return true
end

function M.drop() forget() end

-- Another answer to the same: drawn, with a new seed.
function M.again()
  if not job or job.running then return end
  job.seed = (job.seed or 0) + 1
  M.send()
end

-- A further instruction for what came of the last one.
function M.continue(instruction)
  if not job or job.running then return end
  if not instruction then
    return vim.ui.input({ prompt = "and then: " }, function(text)
      if text and text ~= "" then M.continue(text) end
    end)
  end
  vim.list_extend(job.messages, { { role = "assistant", content = job.text }, { role = "user", content = instruction } })
  M.send()
end

local function open_view()
  vim.cmd("botright new")
  local view = vim.api.nvim_get_current_buf()
  vim.bo.buftype, vim.bo.bufhidden, vim.bo.swapfile = "nofile", "wipe", false
  for key, action in pairs({ ["<CR>"] = M.accept, q = M.drop, r = M.again, c = function() M.continue() end }) do
    vim.keymap.set("n", key, function() action() end, { buffer = view, nowait = true })
  end
  vim.api.nvim_create_autocmd("BufWipeout", {
    buffer = view,
    callback = function()
      if job and job.view == view then vim.schedule(forget) end
    end,
  })
  return view
end

-- Rewrites the lines from first to last (from 1) of the current buffer. Asks for the instruction where none is given.
function M.edit(first, last, instruction)
  if not instruction or instruction == "" then
    return vim.ui.input({ prompt = "rewrite: " }, function(text)
      if text and text ~= "" then M.edit(first, last, text) end
    end)
  end
  local buffer, window = vim.api.nvim_get_current_buf(), vim.api.nvim_get_current_win()
  if not vim.bo[buffer].modifiable then return engine.notify("this buffer cannot be changed") end
  local old = vim.api.nvim_buf_get_lines(buffer, first - 1, last, false)
  engine.when_ready(false, function()
    local now = vim.api.nvim_buf_is_loaded(buffer) and vim.api.nvim_buf_get_lines(buffer, first - 1, last, false)
    if not vim.deep_equal(now, old) or not vim.api.nvim_win_is_valid(window) then
      return engine.notify("the lines have changed while the engine started; ask again")
    end
    if type(engine.model().chat) == "boolean" and not engine.chats() then
      return engine.notify("the model has no chat template, so it cannot be told what to do")
    end
    forget()
    local options = config.options
    local parts = { task }
    for _, part in ipairs({
      { "FILE", vim.fn.fnamemodify(vim.api.nvim_buf_get_name(buffer), ":.") },
      { "BEFORE", lines_of(buffer, first - 1 - options.suffix_lines, first - 1) },
      { "AFTER", lines_of(buffer, last, last + options.suffix_lines) },
      { "SELECTION", table.concat(old, "\n") },
      { "INSTRUCTION", instruction },
    }) do
      if part[2] ~= "" then table.insert(parts, part[1] .. ":\n" .. part[2]) end
    end
    local messages = { { role = "user", content = table.concat(parts, "\n\n") } }
    local mark = vim.api.nvim_buf_set_extmark(buffer, namespace, first - 1, 0, {})
    job = { buffer = buffer, window = window, mark = mark, old = old, messages = messages }
    job.view = open_view()
    M.send()
  end)
end

return M
