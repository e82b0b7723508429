-- Ghost text from the sla engine, for Neovim 0.7 and later.
--
--   require("sla").setup({ command = "sla" })
--
-- <C-Space> or :SlaComplete asks how the text before the cursor goes on. What is decided shows as SlaCommitted, what
-- may still change as SlaDraft. <Tab> takes all that is shown; moving, typing or leaving insert mode drops it.

local M = {}

local options = {
  command = "sla", -- the engine's program; a list adds arguments
  model = nil, -- a GGUF file; nil: the built-in model
  reward = nil, -- a reward channel for it
  max_tokens = 64,
  lines = 200, -- lines above the cursor's that are sent
  request = {}, -- other fields of the generate request, such as { stop = "\n\n" }
  trigger = "<C-Space>", -- keys in insert mode; false: none
  accept = "<Tab>",
}

local namespace = vim.api.nvim_create_namespace("sla")
local engine -- { job = channel, partial = a line that has not ended, log = what it said on stderr }
local ghost -- { buffer, row, column, tick, id, committed, draft, running }, row and column from 0, in bytes
local last_id = 0

local function notify(message)
  vim.notify("sla: " .. message, vim.log.levels.ERROR)
end

local function send(request)
  last_id = last_id + 1
  request.id = last_id
  pcall(vim.fn.chansend, engine.job, vim.json.encode(request) .. "\n") -- one that has just ended tells on_exit
  return last_id
end

-- Drawing

-- Virtual text shows a tab as one cell, so tabs become the spaces that they stand for at a display column.
local function expand_tabs(text, column)
  local stop = vim.bo[ghost.buffer].tabstop
  local expanded = ""
  for part, tab in text:gmatch("([^\t]*)(\t?)") do
    expanded = expanded .. part
    if tab ~= "" then
      expanded = expanded .. string.rep(" ", stop - (column + vim.fn.strdisplaywidth(expanded, column)) % stop)
    end
  end
  return expanded
end

-- Shows the line as accepting would leave it. What follows the cursor is drawn again behind the ghost text: Neovim
-- before 0.10 has no virtual text that moves it.
local function draw()
  vim.api.nvim_buf_clear_namespace(ghost.buffer, namespace, 0, -1)
  if ghost.committed .. ghost.draft == "" then return end
  local line = vim.api.nvim_buf_get_lines(ghost.buffer, ghost.row, ghost.row + 1, true)[1]
  local column = vim.fn.strdisplaywidth(line:sub(1, ghost.column))
  local rows, first_width = { {} }, nil
  for _, part in ipairs({
    { ghost.committed, "SlaCommitted" },
    { ghost.draft, "SlaDraft" },
    { line:sub(ghost.column + 1), "Normal" },
  }) do
    for i, text in ipairs(vim.split(part[1], "\n", { plain = true })) do
      if i > 1 then
        first_width = first_width or column
        table.insert(rows, {})
        column = 0
      end
      text = expand_tabs(text, column)
      column = column + vim.fn.strdisplaywidth(text, column)
      table.insert(rows[#rows], { text, part[2] })
    end
  end
  if first_width then -- what follows the cursor went to another row and leaves blanks
    local blanks = math.max(0, vim.fn.strdisplaywidth(line) - first_width)
    table.insert(rows[1], { string.rep(" ", blanks), "Normal" })
  end
  vim.api.nvim_buf_set_extmark(ghost.buffer, namespace, ghost.row, ghost.column, {
    virt_text = table.remove(rows, 1),
    virt_text_pos = "overlay",
    virt_lines = rows,
  })
end

-- The ghost text's life

-- True while the cursor and the buffer are as they were when the request was sent.
local function is_in_place()
  local cursor = vim.api.nvim_win_get_cursor(0)
  return vim.api.nvim_get_current_buf() == ghost.buffer
    and cursor[1] - 1 == ghost.row
    and cursor[2] == ghost.column
    and vim.api.nvim_buf_get_changedtick(ghost.buffer) == ghost.tick
end

-- True where there is ghost text to accept.
function M.visible()
  return ghost ~= nil and ghost.committed .. ghost.draft ~= "" and is_in_place()
end

-- Drops the ghost text and stops its request.
function M.dismiss()
  if not ghost then return end
  if ghost.running and engine then send({ type = "cancel", target = ghost.id }) end
  if vim.api.nvim_buf_is_valid(ghost.buffer) then
    vim.api.nvim_buf_clear_namespace(ghost.buffer, namespace, 0, -1)
  end
  ghost = nil
end

-- Puts what is shown into the buffer, and the cursor behind it. False where nothing is shown.
function M.accept()
  if not M.visible() then return false end
  local row, column = ghost.row, ghost.column
  local lines = vim.split(ghost.committed .. ghost.draft, "\n", { plain = true })
  M.dismiss()
  vim.go.undolevels = vim.go.undolevels -- one undo takes the accepted text back
  vim.api.nvim_buf_set_text(0, row, column, row, column, lines)
  local last = lines[#lines]
  vim.api.nvim_win_set_cursor(0, { row + #lines, #lines == 1 and column + #last or #last })
  return true
end

-- The engine

local function handle(event)
  if event.type == "error" and (event.id == vim.NIL or ghost and event.id == ghost.id) then
    if ghost and event.id == ghost.id then ghost.running = false end
    M.dismiss()
    notify(event.message)
  elseif ghost and event.id == ghost.id then
    if event.type == "token" then
      ghost.committed = ghost.committed .. event.text
      -- The draft began with this token, or it was another branch's.
      ghost.draft = vim.startswith(ghost.draft, event.text) and ghost.draft:sub(#event.text + 1) or ""
    elseif event.type == "commit" then
      ghost.draft = ""
    elseif event.type == "draft" then
      ghost.draft = event.text
    elseif event.type == "done" then
      ghost.draft, ghost.running = "", false
    end
  end
end

-- Data comes in pieces that may end inside a line: the first item goes on with the last piece's last one.
local function read(this, data)
  for i, text in ipairs(data) do
    if i > 1 then
      local line = this.partial
      this.partial = ""
      local ok, event = pcall(vim.json.decode, line)
      if ok and this == engine then handle(event) end
    end
    this.partial = this.partial .. text
  end
  if ghost and is_in_place() then draw() else M.dismiss() end
end

local function start()
  local command = type(options.command) == "table" and vim.deepcopy(options.command) or { options.command }
  if vim.fn.executable(command[1]) == 0 then
    notify("there is no program " .. command[1])
    return false
  end
  for _, name in ipairs({ "model", "reward" }) do
    if options[name] then vim.list_extend(command, { "--" .. name, vim.fn.expand(options[name]) }) end
  end
  local this = { partial = "", log = "" }
  this.job = vim.fn.jobstart(command, {
    on_stdout = function(_, data) read(this, data) end,
    on_stderr = function(_, data) this.log = (this.log .. table.concat(data, "\n")):sub(-1000) end,
    on_exit = function(_, status)
      if this ~= engine then return end
      engine = nil
      M.dismiss()
      if status ~= 0 then notify("the engine ended with " .. status .. "\n" .. this.log) end
    end,
  })
  engine = this
  return true
end

-- Sends the text before the cursor.
local function ask()
  M.dismiss()
  if not engine and not start() then return end
  local buffer = vim.api.nvim_get_current_buf()
  local cursor = vim.api.nvim_win_get_cursor(0)
  local row, column = cursor[1] - 1, cursor[2]
  local before = vim.api.nvim_buf_get_text(buffer, math.max(0, row - options.lines), 0, row, column, {})
  local request = {
    type = "generate",
    prompt = table.concat(before, "\n"),
    max_tokens = options.max_tokens,
    include = { "draft" },
  }
  ghost = {
    buffer = buffer,
    row = row,
    column = column,
    tick = vim.api.nvim_buf_get_changedtick(buffer),
    id = send(vim.tbl_extend("force", request, options.request)),
    committed = "",
    draft = "",
    running = true,
  }
end

local function is_inserting()
  return vim.api.nvim_get_mode().mode:find("^[iR]") ~= nil
end

-- Asks how the text before the cursor goes on; from normal mode, the text up to the end of the line.
function M.complete()
  if is_inserting() then return ask() end
  vim.cmd("startinsert!")
  vim.defer_fn(function()
    if is_inserting() then ask() end
  end, 0)
end

function M.setup(given)
  options = vim.tbl_extend("force", options, given or {})
  vim.cmd("highlight default link SlaCommitted Comment")
  vim.cmd("highlight default link SlaDraft NonText")
  vim.api.nvim_create_user_command("SlaComplete", M.complete, { desc = "Continue the text before the cursor" })

  vim.keymap.set("i", "<Plug>(sla-complete)", M.complete)
  vim.keymap.set("i", "<Plug>(sla-accept)", M.accept)
  if options.trigger then vim.keymap.set("i", options.trigger, "<Plug>(sla-complete)", { remap = true }) end
  if options.accept then
    -- Not an <expr> mapping: Neovim may evaluate one before it has inserted the letters typed ahead of the key.
    local key = vim.api.nvim_replace_termcodes(options.accept, true, false, true)
    vim.keymap.set("i", options.accept, function()
      if not M.accept() then vim.api.nvim_feedkeys(key, "nit", false) end
    end)
  end

  local group = vim.api.nvim_create_augroup("sla", {})
  vim.api.nvim_create_autocmd({ "CursorMovedI", "TextChangedI", "TextChangedP" }, {
    group = group,
    callback = function()
      if ghost and not is_in_place() then M.dismiss() end
    end,
  })
  vim.api.nvim_create_autocmd({ "InsertLeave", "BufLeave" }, { group = group, callback = M.dismiss })
end

return M
