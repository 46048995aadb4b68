package render

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
)

// listed returns value with every nil slice replaced by an empty one, so that an empty
// list reads as [] in JSON and not as null: a script that loops over it must not need to
// know the difference. Nothing that value refers to is changed.
//
// Types that encode themselves, bytes, and fields with omitzero stay as they are. So do
// slices within maps.
func listed(value any) any {
	if value == nil {
		return nil
	}
	return withLists(reflect.ValueOf(value)).Interface()
}

func withLists(v reflect.Value) reflect.Value {
	if encodesItself(v.Type()) {
		return v
	}
	switch v.Kind() {
	case reflect.Interface:
		if v.IsNil() {
			return v
		}
		copied := reflect.New(v.Type()).Elem()
		copied.Set(withLists(v.Elem()))
		return copied
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		copied := reflect.New(v.Type().Elem())
		copied.Elem().Set(withLists(v.Elem()))
		return copied
	case reflect.Struct:
		return structWithLists(v)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v
		}
		copied := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			copied.Index(i).Set(withLists(v.Index(i)))
		}
		return copied
	default:
		return v
	}
}

func structWithLists(v reflect.Value) reflect.Value {
	copied := reflect.New(v.Type()).Elem()
	copied.Set(v)
	fillStruct(copied)
	return copied
}

// fillStruct changes a copy.
func fillStruct(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && !f.IsExported() && f.Type.Kind() == reflect.Struct:
			fillStruct(v.Field(i)) // it cannot be set, its exported fields can
		case f.IsExported() && !strings.Contains(options, "omitzero"):
			v.Field(i).Set(withLists(v.Field(i)))
		}
	}
}

func encodesItself(t reflect.Type) bool {
	for _, method := range []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()} {
		if t.Implements(method) || reflect.PointerTo(t).Implements(method) {
			return true
		}
	}
	return false
}
