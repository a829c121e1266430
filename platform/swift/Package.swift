// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "PocketDiTBundle",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [.library(name: "PocketDiTBundle", targets: ["PocketDiTBundle"])],
    targets: [
        .target(name: "PocketDiTBundle"),
        .executableTarget(name: "pocketdit-check", dependencies: ["PocketDiTBundle"]),
    ]
)
