-- :checkhealth sla

local M = {}

local function report(name) return vim.health and vim.health[name] or require("health")["report_" .. name] end

function M.check()
  local start, ok, info, warn, err = report("start"), report("ok"), report("info"), report("warn"), report("error")
  local config, engine = require("sla.config"), require("sla.engine")
  local options = config.options

  start("sla: the editor")
  if vim.fn.has("nvim-0.10") == 1 then
    ok("Neovim has inline virtual text, so suggestions move what follows the cursor")
  elseif vim.fn.has("nvim-0.7") == 1 then
    info("Neovim before 0.10 has no inline virtual text; what follows the cursor loses its colours behind a suggestion")
  else
    err("Neovim 0.7 or later is needed")
  end
  for _, name in ipairs({ "accept", "accept_line", "accept_word" }) do
    local before = options[name] and vim.fn.maparg(options[name], "i") or ""
    if before ~= "" then info(("%s takes a suggestion while one is shown, and is else mapped to %s"):format(options[name], before)) end
  end
  if options.trigger and not vim.fn.maparg(options.trigger, "i"):find("sla-complete", 1, true) then
    warn(options.trigger .. " was mapped already, so it does not ask for suggestions; set the option trigger to another key")
  end

  start("sla: the options")
  for _, problem in ipairs(config.problems) do err(problem) end
  if #config.problems == 0 then ok("all are understood") end
  for _, name in ipairs({ "model", "reward" }) do
    local path = options[name] and vim.fn.expand(options[name])
    local is_there = not path or vim.startswith(path, "builtin:") or vim.fn.filereadable(path) == 1 or vim.fn.isdirectory(path) == 1
    if not is_there then err(("the option %s names %s, which cannot be read"):format(name, path)) end
  end

  start("sla: the engine")
  local command = engine.command_line()
  if vim.fn.executable(command[1]) == 0 then
    err("there is no program " .. command[1], { "Build it with swift build -c release, and set the option command to .build/release/sla" })
    return
  end
  ok("runs as " .. table.concat(command, " "))
  local model = engine.model()
  if not model then
    info("it is not running; it starts with the first suggestion or :SlaRestart, and :SlaLog shows what was said")
    return
  end
  local size = ("%s parameters, a context of %s tokens"):format(model.parameters or "?", model.context_length or "?")
  ok((model.name or "the model") .. " is loaded, " .. size)
  if model.fill == nil then
    info("this engine is older than the plugin: long prompts are cut here, and pieces of other files are not sent")
  elseif model.fill then
    ok("the model fills gaps, so what is behind the cursor counts")
  else
    info("the model has no tokens that mark a gap, so only what is before the cursor counts")
  end
  if model.chat == false then info("the model has no chat template, so :SlaEdit cannot work") end
  if model.reward == false then info("there is no reward channel, so suggestions are decoded greedily, and have no branches or rewards") end
end

return M
