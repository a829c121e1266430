import Foundation

/// A reason why no image can be drawn. `localizedDescription` is one line.
public enum BundleError: LocalizedError, CustomStringConvertible, Equatable, Sendable {
    /// Another version of PocketDiT wrote the bundle.
    case unknownFormat(Int)
    /// A file of the bundle is damaged or contradicts itself.
    case damaged(file: String, problem: String)
    /// The bundle lacks a part that is needed to draw an image.
    case incomplete(String)
    /// A package returned something unusable.
    case invalidOutput(String)
    /// An argument has an invalid value.
    case invalidArgument(String)

    public var description: String {
        switch self {
        case .unknownFormat(let found):
            return "format: the bundle has format \(found), but this app reads format \(Manifest.format); "
                + (found < Manifest.format ? "export the bundle again" : "update the app, or export the bundle again")
        case .damaged(let file, let problem):
            return "\(file): \(problem); copy the bundle again, or export it again"
        case .incomplete(let problem), .invalidOutput(let problem), .invalidArgument(let problem):
            return problem
        }
    }

    public var errorDescription: String? { description }
}

/// Reads a file of a bundle.
func contents(of file: URL) throws -> Data {
    do {
        return try Data(contentsOf: file)
    } catch {
        throw BundleError.damaged(
            file: file.lastPathComponent, problem: "cannot be read (\(error.localizedDescription))")
    }
}

/// Decodes the content of a JSON file. If it is damaged, the error names the key.
func decoded<T: Decodable>(_ type: T.Type, from content: Data, file: String) throws -> T {
    func damaged(_ path: [any CodingKey], _ problem: String) -> BundleError {
        let key = path.map { key in key.intValue.map { "\($0)" } ?? key.stringValue }.joined(separator: ".")
        return BundleError.damaged(file: file, problem: key.isEmpty ? problem : "\(key): \(problem)")
    }
    do {
        return try JSONDecoder().decode(type, from: content)
    } catch DecodingError.keyNotFound(let key, let context) {
        throw damaged(context.codingPath + [key], "is missing")
    } catch DecodingError.dataCorrupted(let context) where context.codingPath.isEmpty {
        throw damaged([], "is not valid JSON, or contains a number that is out of range")
    } catch DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
        DecodingError.dataCorrupted(let context)
    {
        let problem = context.debugDescription.trimmingCharacters(in: CharacterSet(charactersIn: "."))
        throw damaged(context.codingPath, problem)
    }
}
