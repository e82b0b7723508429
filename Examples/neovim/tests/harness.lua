-- A Neovim under test: starts one with the plugin, types into it, and reads its screen.

local M = {}

local here = vim.fn.fnamemodify(debug.getinfo(1, "S").source:sub(2), ":p:h")
M.root = vim.fn.fnamemodify(here, ":h")
M.program = vim.fn.exepath(vim.env.SLA or "sla")

local Child = {}
Child.__index = Child

function M.start(arguments)
  local command = { vim.v.progpath, "--embed", "--headless", "-n", "-i", "NONE", "-u", "NONE" }
  vim.list_extend(command, arguments or { "--cmd", "set runtimepath^=" .. M.root, "-c", "runtime plugin/sla.lua" })
  local child = setmetatable({ channel = vim.fn.jobstart(command, { rpc = true }) }, Child)
  child:lua([[
    notifications = {}
    vim.notify = function(message, level) table.insert(notifications, { message, level }) end
    vim.o.swapfile, vim.o.hidden = false, true
  ]])
  return child
end

function Child:stop() vim.fn.jobstop(self.channel) end

function Child:request(method, ...) return vim.rpcrequest(self.channel, method, ...) end

function Child:lua(code, ...) return self:request("nvim_exec_lua", code, { ... }) end

function Child:type(keys) self:request("nvim_input", keys) end

function Child:lines() return self:request("nvim_buf_get_lines", 0, 0, -1, true) end

function Child:cursor() return self:request("nvim_win_get_cursor", 0) end

function Child:set_lines(lines, row, column)
  self:request("nvim_buf_set_lines", 0, 0, -1, true, lines)
  self:request("nvim_win_set_cursor", 0, { row or 1, column or 0 })
end

function Child:notifications()
  return vim.tbl_map(function(item) return item[1] end, self:lua("return notifications"))
end

-- The marks of suggestions in the current buffer: { id, row, column, details }.
function Child:marks()
  return self:lua([[
    return vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_create_namespace("sla"), 0, -1, { details = true })
  ]])
end

-- What the marks show, without what only tells of the suggestion, and without the rest of the line that is drawn again.
function Child:ghost(highlight)
  local texts = {}
  for _, mark in ipairs(self:marks()) do
    for _, row in ipairs(vim.list_extend({ mark[4].virt_text or {} }, mark[4].virt_lines or {})) do
      local text = ""
      for _, chunk in ipairs(row) do
        local name = chunk[2]
        if highlight and name == highlight or not highlight and name ~= "SlaInfo" and name ~= "Normal" then text = text .. chunk[1] end
      end
      table.insert(texts, text)
    end
  end
  while #texts > 0 and texts[#texts] == "" do table.remove(texts) end
  return table.concat(texts, "\n")
end

-- The first rows of the screen, without blanks at their ends.
function Child:screen(count)
  return self:lua([[
    vim.cmd("redraw")
    local rows = {}
    for row = 1, (...) do
      local text = ""
      for column = 1, vim.o.columns do text = text .. vim.fn.screenstring(row, column) end
      table.insert(rows, (text:gsub("%s+$", "")))
    end
    return rows
  ]], count)
end

function M.wait(what, condition)
  if not vim.wait(10000, condition, 2) then error("waited in vain for " .. what, 2) end
end

function M.expect(expected, got)
  if not vim.deep_equal(expected, got) then
    error(("expected %s\n     got %s"):format(vim.inspect(expected), vim.inspect(got)), 2)
  end
end

function Child:wait_ghost(text)
  local got
  if not vim.wait(5000, function()
    got = self:ghost()
    return got == text
  end, 2) then
    error(("expected the ghost %s\n     got %s"):format(vim.inspect(text), vim.inspect(got)), 2)
  end
end

function Child:wait_lines(lines)
  local got
  if not vim.wait(5000, function()
    got = self:lines()
    return vim.deep_equal(got, lines)
  end, 2) then
    error(("expected the lines %s\n     got %s"):format(vim.inspect(lines), vim.inspect(got)), 2)
  end
end

-- The command of an engine with answers from a script, and a function that reads what it was sent.
function M.fake(script)
  local path, log = vim.fn.tempname(), vim.fn.tempname()
  vim.fn.writefile({ vim.json.encode(script) }, path)
  local function sent(kind)
    local requests = {}
    for _, line in ipairs(vim.fn.filereadable(log) == 1 and vim.fn.readfile(log) or {}) do
      local whole, request = pcall(vim.json.decode, line) -- the last one may still be written
      if whole and (not kind or request.type == kind) then table.insert(requests, request) end
    end
    return requests
  end
  return { "python3", M.root .. "/tests/engine.py", path, log }, sent
end

return M
