// Package openapi describes the object types of a cluster to programs that have none of
// their messages: as an OpenAPI 3.1 document of the HTTP gate, and as a resolver of
// message types. It is a function of what the nodes say; it asks nobody.
package openapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// Options is what a document says beside the types.
type Options struct {
	// Authenticated: the gate asks its clients who they are.
	Authenticated bool
	// Visible says which methods clients may call, and with an empty method whether they
	// may create and delete; nil: all.
	Visible func(typ, method string) bool
}

// Document is the OpenAPI 3.1 document of the types, in JSON. The same types and options
// give the same bytes.
func (ts *Types) Document(o Options) []byte {
	if o.Visible == nil {
		o.Visible = func(string, string) bool { return true }
	}
	d := &document{Options: o, schemas: newSchemas(), paths: obj{}}
	d.fixed()
	list := slices.Clone(ts.list)
	slices.SortFunc(list, func(a, b Type) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	tags := []any{}
	for _, t := range list {
		if d.describe(t) {
			tags = append(tags, obj{"name": t.Name})
		}
	}
	b, _ := json.Marshal(d.whole(ts, tags)) // strings, numbers and lists: it cannot fail
	return b
}

// document is one in the making.
type document struct {
	Options
	schemas *schemas
	paths   obj
}

func (d *document) whole(ts *Types, tags []any) obj {
	components := obj{
		"schemas":    d.schemas.components,
		"parameters": headerParameters,
		"responses":  obj{"Failure": obj{"description": "What went wrong, and whether the call ran.", "content": jsonContent(obj{"$ref": componentsRoot + failureName})}},
	}
	d.schemas.components[failureName] = failureSchema()
	all := obj{
		"openapi": "3.1.0",
		"info": obj{
			"title": "Goverse gate", "version": ts.Digest,
			"description": "The objects of this cluster. An object exists as soon as it is called, unless its type says otherwise.",
		},
		"jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
		"servers":           []any{obj{"url": "/"}},
		"tags":              tags,
		"paths":             d.paths,
		"components":        components,
	}
	if d.Authenticated {
		components["securitySchemes"] = obj{"bearer": obj{"type": "http", "scheme": "bearer"}}
		all["security"] = []any{obj{"bearer": []any{}}}
	}
	if ts.Silent > 0 {
		all["x-goverse-silent-nodes"] = ts.Silent
	}
	return all
}

// envelope is the words that stand where a type's name does, and mean something else.
var envelope = map[string]bool{"call": true, "create": true, "delete": true}

// describe adds the paths of a type; it says whether there are any.
func (d *document) describe(t Type) (shown bool) {
	if envelope[t.Name] {
		return false
	}
	root := "/api/v1/objects/" + url.PathEscape(t.Name) + "/{id}"
	if d.Visible(t.Name, "") {
		d.paths[root] = d.life(t)
		shown = true
	}
	for _, m := range t.Methods {
		if !d.Visible(t.Name, m.Name) {
			continue
		}
		shown = true
		item := obj{"parameters": []any{idParameter(), ref("ClientID"), ref("Timeout"), ref("CallID")}, "post": d.post(t, m)}
		if m.ReadOnly {
			item["get"] = d.get(t, m)
		}
		d.paths[root+"/"+url.PathEscape(m.Name)] = item
	}
	return shown
}

func (d *document) life(t Type) obj {
	created := obj{"type": "object", "properties": obj{"id": obj{"type": "string"}}, "required": []string{"id"}, "additionalProperties": false}
	deleted := obj{"type": "object", "properties": obj{"success": obj{"const": true}}, "required": []string{"success"}, "additionalProperties": false}
	put := d.operation(t.Name, t.Name+".create", "Create the object", "201", "It exists.", created)
	if t.MustCreate {
		put["description"] = "An object of this type is to be created before it is called."
	}
	return obj{
		"parameters": []any{idParameter(), ref("ClientID"), ref("Timeout")},
		"put":        put,
		"delete":     d.operation(t.Name, t.Name+".delete", "Delete the object and its stored state", "200", "It does not exist any more.", deleted),
	}
}

func (d *document) post(t Type, m Method) obj {
	op := d.operation(t.Name, t.Name+"."+m.Name, m.Name, "200", "The method's response.", d.schemas.message(m.Response))
	op["requestBody"] = obj{"content": jsonContent(d.schemas.message(m.Request)), "description": "Nothing is a request with no field set."}
	op["x-goverse-read-only"] = m.ReadOnly
	return op
}

func (d *document) get(t Type, m Method) obj {
	op := d.operation(t.Name, t.Name+"."+m.Name+".get", m.Name+", which changes nothing", "200", "The method's response.", d.schemas.message(m.Response))
	if list := d.query(m.Request); len(list) > 0 {
		op["parameters"] = list
	}
	return op
}

func (d *document) operation(tag, id, summary, status, about string, schema obj) obj {
	success := obj{"description": about, "content": jsonContent(schema)}
	return obj{"tags": []string{tag}, "operationId": id, "summary": summary, "responses": obj{status: success, "default": obj{"$ref": "#/components/responses/Failure"}}}
}

// queryDepth bounds how far into messages a document names query parameters. A gate takes
// them further down, too.
const queryDepth = 3

// query is the parameters of a request: a field each, of a message in it as a.b.
func (d *document) query(m protoreflect.MessageDescriptor) []any {
	if own := wellKnown(m.FullName()); own != nil {
		if _, is := wrapped[m.FullName()]; is || own["type"] == "string" {
			return []any{parameter("value", own)}
		}
		return nil
	}
	return d.queryFields(m, "", queryDepth)
}

func (d *document) queryFields(m protoreflect.MessageDescriptor, prefix string, depth int) (list []any) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		name := prefix + f.JSONName()
		switch nested := f.Message(); {
		case f.IsMap():
			// Their names are the caller's, and no list of parameters can say them.
		case nested == nil:
			list = append(list, parameter(name, d.schemas.field(f)))
		case wellKnown(nested.FullName()) != nil:
			if own := d.schemas.field(f); isSimple(nested) {
				list = append(list, parameter(name, own))
			}
		case !f.IsList() && depth > 1:
			list = append(list, d.queryFields(nested, name+".", depth-1)...)
		}
	}
	return list
}

// isSimple: a query parameter can say it.
func isSimple(d protoreflect.MessageDescriptor) bool {
	_, is := wrapped[d.FullName()]
	return is || wellKnown(d.FullName())["type"] == "string"
}

func parameter(name string, schema obj) obj {
	return obj{"name": name, "in": "query", "schema": schema}
}

func idParameter() obj {
	return obj{"name": "id", "in": "path", "required": true, "schema": obj{"type": "string", "minLength": 1, "maxLength": object.MaxIDLen}, "description": "The object's id; a slash in it is written %2F."}
}

func ref(parameter string) obj { return obj{"$ref": "#/components/parameters/" + parameter} }

func jsonContent(schema obj) obj { return obj{"application/json": obj{"schema": schema}} }

var headerParameters = obj{
	"ClientID": header("X-Client-ID", obj{"type": "string"}, "The session that the call is made for, as the stream of events registered it."),
	"Timeout":  header("X-Goverse-Timeout", obj{"type": "string"}, "How long the answer is of use, as 500ms; it can only shorten the gate's own."),
	"CallID":   header("X-Goverse-Call-ID", obj{"type": "string"}, "Calls under one id run once, and have one answer."),
}

func header(name string, schema obj, about string) obj {
	return obj{"name": name, "in": "header", "schema": schema, "description": about}
}

// failureName is what no message is called.
const failureName = "gate-failure"

func failureSchema() obj {
	codes := []string{"INVALID_PATH", "INVALID_JSON", "INVALID_BASE64", "INVALID_PROTOBUF", "CREATE_FAILED", "DELETE_FAILED"}
	for _, row := range fault.Table() {
		if !slices.Contains(codes, row.Code) {
			codes = append(codes, row.Code)
		}
	}
	slices.Sort(codes)
	outcomes := []string{fault.NotExecuted.String(), fault.Executed.String(), fault.OutcomeUnknown.String()}
	return obj{
		"type": "object", "required": []string{"error", "code", "outcome"},
		"properties": obj{
			"error":   obj{"type": "string", "description": "For people. No program should read it."},
			"code":    obj{"type": "string", "enum": codes},
			"outcome": obj{"type": "string", "enum": outcomes, "description": "Whether the call ran. What was NotExecuted may be tried again."},
			"kind":    obj{"type": "string", "description": "Which CONFLICT."},
			"path":    obj{"type": "string", "description": "What failed, as Type/id.Method."},
		},
	}
}

// fixed is the paths that are there whatever the types are.
func (d *document) fixed() {
	stream := obj{"description": "The session's events: register, message, heartbeat.", "content": obj{"text/event-stream": obj{"schema": obj{"type": "string"}}}}
	failed := obj{"$ref": "#/components/responses/Failure"}
	d.paths["/api/v1/events/stream"] = obj{"get": obj{
		"operationId": "events", "summary": "Open a session, and hear what is pushed to it", "responses": obj{"200": stream, "default": failed},
	}}
	d.paths["/api/v1/ws"] = obj{"get": obj{
		"operationId": "socket", "summary": "Calls and pushes as JSON on one WebSocket", "responses": obj{"101": obj{"description": http.StatusText(http.StatusSwitchingProtocols)}, "default": failed},
	}}
	d.paths["/api/v1/openapi.json"] = obj{"get": obj{
		"operationId": "openapi", "summary": "This document", "responses": obj{"200": obj{"description": "This document.", "content": jsonContent(obj{"type": "object"})}, "default": failed},
	}}
}
