// Package tools pins the programs that build and check the project.
package tools
