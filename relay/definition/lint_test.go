package definition

import (
	"slices"
	"testing"
)

// Each rule is broken once.
func TestLintRules(t *testing.T) {
	t.Parallel()
	const head = `{"swagger":"2.0","info":{"title":"x","version":"1"},`
	op := func(inside string) string {
		return head + `"paths":{"/x":{"post":{"operationId":"Do","summary":"Do","description":"Does.",` + inside + `}}}}`
	}
	const ok = `"responses":{"200":{"description":"OK"}}`
	parameter := func(p string) string { return op(`"consumes":["application/json"],"parameters":[` + p + `],` + ok) }
	schema := func(s string) string {
		return op(`"responses":{"200":{"description":"OK","schema":` + s + `}}`)
	}
	for rule, text := range map[string]string{
		"Syntax":                                            `{"swagger":`,
		"SpecificationVersionIncorrect":                     `{"openapi":"3.0.0","paths":{}}`,
		"RequiredPropertyMissing":                           `{"swagger":"2.0","paths":{}}`,
		"HostNameNotValid":                                  head + `"host":"https://x/","paths":{}}`,
		"BasePathNotValid":                                  head + `"basePath":"x","paths":{}}`,
		"SchemesArrayEmpty":                                 head + `"schemes":[],"paths":{}}`,
		"SchemeNotSupported":                                head + `"schemes":["wss"],"paths":{}}`,
		"SecurityRequirementMustBeDefined":                  head + `"security":[{"k":[]}],"paths":{}}`,
		"SecuritySchemePropertyRequired":                    head + `"securityDefinitions":{"k":{"type":"apiKey"}},"paths":{}}`,
		"OperationPathMustStartWithSlash":                   head + `"paths":{"x":{}}}`,
		"OperationPathTemplateNotValid":                     head + `"paths":{"/{x":{}}}`,
		"PathRedefined":                                     head + `"paths":{"/x":{},"/X":{}}}`,
		"OperationIdRequired":                               head + `"paths":{"/x":{"get":{` + ok + `}}}}`,
		"OperationIdNotUnique":                              head + `"paths":{"/x":{"get":{"operationId":"A",` + ok + `},"put":{"operationId":"a",` + ok + `}}}}`,
		"OperationIdSanitized":                              head + `"paths":{"/x":{"get":{"operationId":"a-b",` + ok + `}}}}`,
		"DuplicateOperationPath":                            head + `"paths":{"/x/{a}":{"get":{` + ok + `}},"/x/{b}":{"get":{` + ok + `}}}}`,
		"OperationMissingPathParameter":                     head + `"paths":{"/x/{a}":{"get":{` + ok + `}}}}`,
		"OperationMustHaveResponse":                         op(`"responses":{}`),
		"ResponseMustBeDefaultOrHttpStatusCode":             op(`"responses":{"2XX":{"description":"x"}}`),
		"DefaultResponseHasSchema":                          op(`"responses":{"default":{"description":"x","schema":{}}}`),
		"BodyOrFormDataParameterInFetchOperationNotAllowed": head + `"paths":{"/x":{"get":{"parameters":[{"name":"b","in":"body","schema":{}}],` + ok + `}}}}`,
		"ConnectionIdParameterNotAllowed":                   parameter(`{"name":"connectionId","in":"query","type":"string"}`),
		"ReservedParameterIsUsed":                           parameter(`{"name":"Authorization","in":"header","type":"string"}`),
		"PathParameterNotDefinedInTemplate":                 parameter(`{"name":"a","in":"path","required":true,"type":"string"}`),
		"PathParameterMissingEncoding":                      parameter(`{"name":"a","in":"path","required":true,"type":"string"}`),
		"FileParameterMustBeInFormData":                     parameter(`{"name":"a","in":"query","type":"file"}`),
		"BodyParameterSchemaRequired":                       parameter(`{"name":"a","in":"body"}`),
		"ParameterReferenceNotFound":                        parameter(`{"$ref":"#/parameters/none"}`),
		"ArrayHasNoItems":                                   parameter(`{"name":"a","in":"query","type":"array"}`),
		"CollectionFormatValueNotSupported":                 parameter(`{"name":"a","in":"header","type":"array","items":{"type":"string"},"collectionFormat":"multi"}`),
		"OperationParametersContainDuplicateParameter":      parameter(`{"name":"a","in":"query","type":"string"},{"name":"a","in":"query","type":"string"}`),
		"MimeTypeNotSupported":                              op(`"consumes":["application/xml"],` + ok),
		"DefaultValueMustMatchType":                         parameter(`{"name":"a","in":"query","type":"integer","default":"x"}`),
		"InvalidEnumValue":                                  parameter(`{"name":"a","in":"query","type":"integer","enum":["x"]}`),
		"PropertyMustBeRequired":                            parameter(`{"name":"a","in":"query","type":"string","required":true,"x-ms-visibility":"internal"}`),
		"UnrecognizedTypeFormat":                            parameter(`{"name":"a","in":"query","type":"string","format":"ipv4"}`),
		"PatternShouldBeValidRegularExpression":             parameter(`{"name":"a","in":"query","type":"string","pattern":"("}`),
		"SchemaReferenceNotFound":                           schema(`{"$ref":"#/definitions/None"}`),
		"SchemaReferenceNotValid":                           schema(`{"$ref":"other.json"}`),
		"AdditionalPropertyNotAllowed":                      schema(`{"oneOf":[{}]}`),
		"RequiredPropertyArrayEmpty":                        schema(`{"type":"object","required":[]}`),
		"RequiredPropertyDefinitionMissing":                 schema(`{"type":"object","required":["a"]}`),
		"InvalidStringBinaryProperty":                       schema(`{"type":"object","properties":{"a":{"type":"string","format":"binary"}}}`),
		"SchemaRefLoopNotAllowed":                           head + `"definitions":{"A":{"properties":{"a":{"$ref":"#/definitions/A"}}}},"paths":{"/x":{"get":{"responses":{"200":{"description":"x","schema":{"$ref":"#/definitions/A"}}}}}}}`,
		"JsonTypeIncorrect":                                 op(`"x-ms-trigger":"often",` + ok),
		"OperationIdNotFound":                               parameter(`{"name":"a","in":"query","type":"string","x-ms-dynamic-values":{"operationId":"None"}}`),
		"InvalidNextLinkNameValue":                          op(`"x-ms-pageable":{"nextLinkName":"more"},` + ok),
	} {
		findings := Lint([]byte(text))
		if !slices.ContainsFunc(findings, func(f Finding) bool { return f.Rule == rule && f.Place != "" && f.Message != "" && f.Mend != "" }) {
			t.Errorf("%s is not found in %s: %+v", rule, text, findings)
		}
	}
	if findings := Lint([]byte(op(ok))); len(findings) > 0 {
		t.Errorf("nothing is wrong, and yet: %+v", findings)
	}
}

func TestLintProperties(t *testing.T) {
	t.Parallel()
	for text, rule := range map[string]string{
		`{`:                 "Syntax",
		`{}`:                "RequiredPropertyMissing",
		`{"properties":{}}`: "RequiredPropertyMissing",
		`{"properties":{"iconBrandColor":"#123456","connectionParameters":{"gateway":{"type":"gatewaySetting"}}}}`: "GatewayCapability",
		`{"properties":{"iconBrandColor":"#123456","policyTemplateInstances":[{"templateId":"magic"}]}}`:           "JsonValueNotInEnum",
	} {
		if f := LintProperties([]byte(text)); len(f) == 0 || f[0].Rule != rule {
			t.Errorf("%s: %+v, want %s", text, f, rule)
		}
	}
}
