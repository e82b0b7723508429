import Foundation

#if canImport(FoundationXML)
    import FoundationXML
#endif

/// The elements of an SVG or a page, as a program that reads XML finds them.
final class XMLReader: NSObject, XMLParserDelegate {
    struct Element { var attributes: [String: String], text = "" }
    private(set) var elements: [String: [Element]] = [:]
    private var open: [String] = []

    init(_ text: String) throws {
        super.init()
        let parser = XMLParser(data: Data(text.utf8))
        parser.delegate = self
        guard parser.parse() else { throw parser.parserError ?? CocoaError(.coderInvalidValue) }
    }

    func parser(
        _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
        attributes: [String: String]
    ) {
        elements[name, default: []].append(Element(attributes: attributes))
        open.append(name)
    }

    func parser(_ parser: XMLParser, foundCharacters text: String) {
        guard let name = open.last, let last = elements[name]?.indices.last else { return }
        elements[name]?[last].text += text
    }

    func parser(_ parser: XMLParser, didEndElement name: String, namespaceURI: String?, qualifiedName: String?) { open.removeLast() }
}
