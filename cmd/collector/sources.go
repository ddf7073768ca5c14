package main

import (
	"fmt"
	"maps"
	"slices"

	"evidence-ledger/collectors"
	"evidence-ledger/collectors/agent"
	"evidence-ledger/collectors/patchrun"
)

// defaults lists the kinds of sources and where they lie unless config.json
// says otherwise.
var defaults = map[string][]string{
	"apt-history": {"/var/log/apt/history.log*"},
	"dpkg":        {"/var/log/dpkg.log*"},
}

// sources returns the files of a kind.
func sources(c *agent.Config, kind string) []string {
	if globs, ok := c.Sources[kind]; ok {
		return globs
	}
	return defaults[kind]
}

// build makes every collector that there is; a new one is added here.
func build(c *agent.Config) ([]collectors.Collector, error) {
	for kind := range c.Sources {
		if _, known := defaults[kind]; !known {
			return nil, fmt.Errorf("the configuration: sources.%s: no such kind, there are %v", kind, slices.Sorted(maps.Keys(defaults)))
		}
	}
	zone, err := c.Zone()
	if err != nil {
		return nil, err
	}
	patch, err := patchrun.New(patchrun.Config{
		History: sources(c, "apt-history"), Dpkg: sources(c, "dpkg"), Zone: zone, Scope: map[string]string{"host": c.Host},
	})
	if err != nil {
		return nil, err
	}
	return []collectors.Collector{patch}, nil
}
