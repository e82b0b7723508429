-- Commands and keys of the sla plugin. Nothing is loaded, and no engine runs, before one of them is used or text is typed.

if vim.g.loaded_sla or vim.fn.has("nvim-0.7") == 0 then return end
vim.g.loaded_sla = true

local function command(name, action, options)
  vim.api.nvim_create_user_command(name, action, options)
end

command("SlaComplete", function() require("sla").complete() end, { desc = "Continue the text at the cursor" })
command("SlaToggle", function(given) require("sla").toggle(given.bang) end, {
  bang = true,
  desc = "Switch automatic suggestions on or off; with ! in this buffer only",
})
command("SlaRewards", function() require("sla").toggle_rewards() end, { desc = "Colour suggestions by reward, or stop it" })
command("SlaRestart", function() require("sla").restart() end, { desc = "Start the engine anew" })
command("SlaLog", function() require("sla").log() end, { desc = "Show what was said to the engine, and what it said" })
command("SlaEdit", function(given) require("sla.edit").edit(given.line1, given.line2, given.args) end, {
  range = true,
  nargs = "*",
  desc = "Rewrite the lines as told, and show the difference to accept or drop",
})

-- A setup in init.lua comes before this, one by a plugin manager just after; without any the defaults hold.
vim.schedule(function()
  if not require("sla").is_set_up then require("sla").setup(vim.g.sla) end
end)
