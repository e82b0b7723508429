-- What can be set: each option is described once, here. setup() checks against it, and a test compares doc/sla.txt with it.

local M = {}

-- name, default, what it may be: types separated by "|", or a function that says what is wrong.
local function count(least)
  return function(value)
    if type(value) ~= "number" or value < least or value ~= math.floor(value) then
      return "must be a whole number of at least " .. least
    end
  end
end

local function count_or_false(least)
  local check = count(least)
  return function(value) return value ~= false and check(value) and check(value) .. ", or false" or nil end
end

local specification = {
  { "command", "sla", "string|table" }, -- the engine's program; a list adds arguments
  { "model", nil, "string" }, -- a GGUF file; nil: the built-in model
  { "reward", nil, "string" }, -- a reward channel for it
  { "request", {}, "table" }, -- other fields of the generate request, such as { stop = "\n\n" }
  { "auto", true, "boolean" }, -- suggestions while one types
  { "filetypes", {}, "table" }, -- { markdown = false }, or { ["*"] = false, lua = true }
  { "debounce_ms", 75, count(0) }, -- from the last key to the request
  { "deadline_ms", 5000, count_or_false(0) }, -- an automatic answer ends as it is after this
  { "max_tokens", 64, count(1) },
  { "lines", 256, count(0) }, -- above the cursor's that are sent, at least
  { "suffix_lines", 64, count(0) }, -- below the cursor's that are sent to models that fill gaps
  { "suffix_tokens", 40, count(0) }, -- of what is behind the cursor that count at most
  { "max_rest", 8, count(0) }, -- no automatic suggestion where more characters follow in the line
  { "pieces", 16, count(0) }, -- of other files that are sent along; 0: none
  { "piece_lines", 64, count(3) }, -- of a piece, at most
  { "cache", 100, count(0) }, -- suggestions that come back at once
  { "ahead", true, "boolean" }, -- ask for what follows a suggestion while it is read
  { "info", false, "boolean" }, -- tokens, reward and milliseconds behind the suggestion
  { "mark", "…", "string|false" }, -- at the end of the line while the engine computes
  { "rewards", false, "boolean" }, -- colours by reward
  { "edit_tokens", 1024, count(1) }, -- longest answer of :SlaEdit
  { "trigger", "<C-Space>", "string|false" }, -- keys in insert mode; false: none
  { "accept", "<Tab>", "string|false" },
  { "accept_line", "<S-Tab>", "string|false" },
  { "accept_word", "<C-Right>", "string|false" },
  { "next", "<M-]>", "string|false" },
  { "previous", "<M-[>", "string|false" },
  { "dismiss", "<C-]>", "string|false" },
}

M.specification = specification
M.options = {}
M.problems = {} -- what was wrong with the options of the last setup()

local function reset()
  for name in pairs(M.options) do M.options[name] = nil end
  for _, entry in ipairs(specification) do M.options[entry[1]] = vim.deepcopy(entry[2]) end
end

local function problem(allowed, value)
  if type(allowed) == "function" then return allowed(value) end
  for kind in allowed:gmatch("[^|]+") do
    if type(value) == kind or kind == "false" and value == false then return nil end
  end
  return "must be " .. allowed:gsub("|", " or "):gsub("table", "a table"):gsub("string", "a string"):gsub("boolean", "true or false")
end

-- The options' defaults with what was given; returns what is wrong with it, naming each. A wrong one keeps its default.
function M.set(given)
  reset()
  M.problems = {}
  if given ~= nil and type(given) ~= "table" then
    M.problems = { "the options must be a table, such as { model = \"model.gguf\" }" }
    return M.problems
  end
  local names = {}
  for _, entry in ipairs(specification) do names[entry[1]] = entry[3] end
  for name, value in pairs(given or {}) do
    if not names[name] then
      local known = vim.tbl_keys(names)
      table.sort(known)
      table.insert(M.problems, ("there is no option %s; known are %s"):format(tostring(name), table.concat(known, ", ")))
    else
      local wrong = problem(names[name], value)
      if wrong then
        table.insert(M.problems, ("the option %s %s"):format(name, wrong))
      else
        M.options[name] = vim.deepcopy(value)
      end
    end
  end
  table.sort(M.problems)
  return M.problems
end

reset()

return M
