package gateway

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// disagreements says which APIs the agents of a gateway offer under different policies: which of them decides about a call
// is then a matter of chance. Agents that tell no policy of an API are not compared.
func (s *site) disagreements() (warnings []string) {
	byAPI := map[string]map[string][]string{} // API -> policy -> agents
	for _, l := range s.all() {
		o := l.offer.Load()
		if o == nil {
			continue
		}
		for _, api := range o.APIs {
			if api.Policy == "" {
				continue
			}
			if byAPI[api.Name] == nil {
				byAPI[api.Name] = map[string][]string{}
			}
			if agents := byAPI[api.Name][api.Policy]; !slices.Contains(agents, l.Agent) {
				byAPI[api.Name][api.Policy] = append(agents, l.Agent)
			}
		}
	}
	for _, api := range slices.Sorted(maps.Keys(byAPI)) {
		if policies := byAPI[api]; len(policies) > 1 {
			warnings = append(warnings, fmt.Sprintf("its agents allow different calls of the API %s (%s); "+
				"a call is decided by whichever agent gets it: make 'allow' the same in each agent.yaml", api, sides(policies)))
		}
	}
	return warnings
}

// sides names the agents, those that agree with each other together.
func sides(policies map[string][]string) string {
	var groups []string
	for _, agents := range policies {
		slices.Sort(agents)
		groups = append(groups, strings.Join(agents, " and "))
	}
	slices.Sort(groups)
	return "agent " + strings.Join(groups, ", unlike agent ")
}
