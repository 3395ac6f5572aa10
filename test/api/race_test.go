//go:build race

package api

// raceEnabled: everything takes several times as long.
const raceEnabled = true
