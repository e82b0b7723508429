-- Puts suggestions on the screen, and tells how much of them it could show.

local M = {}

local namespace = vim.api.nvim_create_namespace("sla")
local has_inline = vim.fn.has("nvim-0.10") == 1 -- virtual text that moves what follows it

M.namespace = namespace

function M.clear(buffer)
  if vim.api.nvim_buf_is_valid(buffer) then vim.api.nvim_buf_clear_namespace(buffer, namespace, 0, -1) end
end

-- Lays out pieces of text as rows of the screen, as the window would wrap them.
--   parts: { { text, highlight }, … }; start: the column of the window where they begin, column: the line's
-- Each row is { chunks, width = its end's column, stop = bytes of the text up to its end, with the line's end, of }.
local function lay_out(parts, start, column, width, tabstop)
  local rows, stop = { { chunks = {}, width = start } }, 0
  local chunk -- { text pieces, highlight } that grows
  local function close()
    if chunk and #chunk[1] > 0 then table.insert(rows[#rows].chunks, { table.concat(chunk[1]), chunk[2] }) end
    chunk = nil
  end
  local function new_row()
    close()
    rows[#rows].stop = stop
    table.insert(rows, { chunks = {}, width = 0 })
  end
  for _, part in ipairs(parts) do
    close()
    chunk = { {}, part[2] }
    for character in part[1]:gmatch("[%z\1-\127\192-\255][\128-\191]*") do
      if character == "\n" then
        stop = stop + 1
        new_row()
        column, chunk = 0, { {}, part[2] }
      else
        local text = character
        local cells
        if character == "\t" then
          cells = tabstop - column % tabstop
          text = string.rep(" ", cells)
        elseif #character == 1 then
          cells = 1
        else
          cells = vim.fn.strdisplaywidth(character)
        end
        if rows[#rows].width + cells > width and rows[#rows].width > 0 then
          new_row()
          chunk = { {}, part[2] }
        end
        rows[#rows].width = rows[#rows].width + cells
        column = column + cells
        stop = stop + #character
        table.insert(chunk[1], text)
      end
    end
  end
  close()
  rows[#rows].stop = stop
  return rows
end

-- Shows a suggestion at the cursor of the current window, and returns what of it is on the screen now: all, or its first
-- rows where the window has no more below the cursor. Those end with a line's end, and with a mark that tells that it goes on.
--   parts: { { text, highlight }, … }; info: a text for behind the first row, or nil
function M.suggestion(parts, info)
  local buffer = vim.api.nvim_get_current_buf()
  local cursor = vim.api.nvim_win_get_cursor(0)
  local row, column = cursor[1] - 1, cursor[2]
  local line = vim.api.nvim_get_current_line()
  local rest = line:sub(column + 1)
  local window = vim.fn.getwininfo(vim.api.nvim_get_current_win())[1]
  local width = math.max(1, window.width - window.textoff)
  local start = math.max(0, vim.fn.wincol() - 1 - window.textoff)
  local text_column = vim.fn.strdisplaywidth(line:sub(1, column))
  local rest_width = vim.fn.strdisplaywidth(line) - text_column
  local room = window.height - vim.fn.winline() -- rows below the cursor's
  local tabstop = vim.bo[buffer].tabstop
  M.clear(buffer)

  local text = ""
  for _, part in ipairs(parts) do text = text .. part[1] end
  local rows = lay_out(parts, start, text_column, width, tabstop)

  local function mark(options)
    options.hl_mode = "combine"
    vim.api.nvim_buf_set_extmark(buffer, namespace, row, column, options)
  end
  local function eol(message)
    if message then mark({ virt_text = { { message, "SlaInfo" } }, virt_text_pos = "eol" }) end
  end

  -- In one row beside which the rest of the line has its place, Neovim from 0.10 moves the rest by itself.
  if has_inline and #rows == 1 and rows[1].width + rest_width <= width then
    mark({ virt_text = rows[1].chunks, virt_text_pos = "inline" })
    eol(info)
    return text
  end

  -- Else the line is shown as accepting would leave it: what follows the cursor is drawn again behind the suggestion.
  local overlay = start + rest_width <= width
  if overlay then
    if rest ~= "" then rows = lay_out(vim.list_extend(vim.deepcopy(parts), { { rest, "Normal" } }), start, text_column, width, tabstop) end
  else -- the rest goes on in other rows, which nothing can cover: all of the suggestion goes below
    rows = lay_out(parts, 0, text_column, width, tabstop)
    room = room - math.floor((start + rest_width - 1) / width)
  end
  local kept = math.max(overlay and 1 or 0, math.min(#rows, room + (overlay and 1 or 0)))
  local shown, more = text, #rows - kept
  if more > 0 then
    shown = kept > 0 and text:sub(1, rows[kept].stop) or ""
    for i = #rows, kept + 1, -1 do rows[i] = nil end
  end
  if kept == 0 then return "" end
  if more > 0 then
    local last = rows[kept]
    local sign = ("⏎ +%d"):format(more)
    table.insert(last.chunks, { sign, "SlaInfo" })
    last.width = last.width + vim.fn.strdisplaywidth(sign)
  end
  if overlay then
    local first = table.remove(rows, 1)
    local blanks = start + rest_width - first.width -- what follows the cursor went to another row
    if blanks > 0 then table.insert(first.chunks, { string.rep(" ", blanks), "Normal" }) end
    if info and math.max(first.width, start + rest_width) + vim.fn.strdisplaywidth(info) + 1 <= width then
      table.insert(first.chunks, { " " .. info, "SlaInfo" })
    end
    mark({
      virt_text = first.chunks,
      virt_text_pos = "overlay",
      virt_lines = #rows > 0 and vim.tbl_map(function(item) return item.chunks end, rows) or nil,
    })
  else
    mark({ virt_lines = vim.tbl_map(function(item) return item.chunks end, rows) })
  end
  return shown
end

-- Shows a mark at the end of the cursor's line.
function M.mark(text)
  local buffer = vim.api.nvim_get_current_buf()
  local row = vim.api.nvim_win_get_cursor(0)[1] - 1
  M.clear(buffer)
  vim.api.nvim_buf_set_extmark(buffer, namespace, row, 0, { virt_text = { { text, "SlaInfo" } }, virt_text_pos = "eol" })
end

return M
