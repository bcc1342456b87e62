-- How Argo CD reads ProcessClusters, PolicyCritics and AutomationGates; argocd-cm.yaml holds it.
-- Waiting for evidence is Healthy, only what ends in minutes is Progressing, a latch is Suspended: waves end.
local health = {status = "Progressing", message = "not seen by the controller yet"}
if obj.status == nil or obj.status.conditions == nil then
  return health
end
if obj.status.observedGeneration ~= nil and obj.metadata.generation ~= nil
    and obj.status.observedGeneration ~= obj.metadata.generation then
  health.message = "the newest spec is not seen by the controller yet"
  return health
end
local found = {}
for _, condition in ipairs(obj.status.conditions) do
  found[condition.type] = condition
end
local function holds(kind)
  return found[kind] ~= nil and found[kind].status == "True"
end
local function says(condition)
  if condition.message == nil or condition.message == "" then
    return condition.reason
  end
  return condition.reason .. ": " .. condition.message
end
if holds("Stalled") then
  return {status = "Degraded", message = says(found.Stalled)}
end
if holds("Quarantined") then
  return {status = "Degraded", message = says(found.Quarantined)}
end
if holds("Reconciling") then
  return {status = "Progressing", message = says(found.Reconciling)}
end
if holds("RolledBack") then
  return {status = "Suspended", message = says(found.RolledBack)}
end
if holds("Ready") then
  if found.Ready.reason == "Suspended" then
    return {status = "Suspended", message = says(found.Ready)}
  end
  return {status = "Healthy", message = says(found.Ready)}
end
if found.Ready ~= nil then
  return {status = "Degraded", message = says(found.Ready)}
end
return health
