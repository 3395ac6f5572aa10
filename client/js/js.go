// Package js is the JavaScript client of a gate, as the gate serves it to pages:
//
//	import { connect } from "/api/v1/client.js";
package js

import "embed"

// Files are the modules: client.js, and below client/ what it imports.
//
//go:embed client.js client/*.js
var Files embed.FS
