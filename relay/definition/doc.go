// Package definition turns the description of an API into what its callers import: the files of a Power Platform custom
// connector, a Postman collection, an OpenAPI 3 document.
//
// It takes OpenAPI 2.0, 3.0 and 3.1 (JSON or YAML) and Postman collections (v1, v2.0, v2.1), as they are found: it works
// on a tree of members in the author's order and takes from it what it knows, so that one odd place costs that place
// and not the document. What the output cannot say is said as nearly as possible, and is in the report. It fetches
// nothing, keeps nothing and knows no relay: whoever calls it says under which address, with which caller
// authentication, the API is published. It does not decide which operations may be called; the agent has cut the
// document to its allow-list before.
//
//	doc, err := definition.Parse(data)                   // bounded; errors name line or JSON pointer
//	files, err := definition.PowerPlatform(doc, target)  // apiDefinition.swagger.json and what belongs to it
//	findings := definition.Lint(files.Definition)        // Microsoft's validator rules
//
// The same input gives the same bytes.
package definition
